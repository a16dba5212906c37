"""Between transfer adapters and the forms of others: PEFT adapters, patches, signals."""
