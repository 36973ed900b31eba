"""Many runs: studies by design of experiments, and tuning."""
