"""Real servers and real git for the tests, each on loopback, each ending with the test that began it."""
