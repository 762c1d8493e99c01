"""Twenty minutes of mixed load: what grows?"""
