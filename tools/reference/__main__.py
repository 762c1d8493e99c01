from tools.reference import write

write()
