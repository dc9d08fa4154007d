"""What compiled optimizers need while they train; nothing of the compiler is in it."""
