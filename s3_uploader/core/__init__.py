"""What every part speaks: values, events, errors, text. No disk but a few durable writes, no network."""
