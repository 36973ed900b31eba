"""One small module a command; `command` holds what they share."""
