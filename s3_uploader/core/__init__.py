"""The vocabulary of all parts: values, events, errors, text. No network, and no disk but a few durable writes."""
