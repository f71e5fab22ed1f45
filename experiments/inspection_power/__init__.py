"""How far verdicts on backdoors can be trusted: inspections of many clean and backdoored networks."""
