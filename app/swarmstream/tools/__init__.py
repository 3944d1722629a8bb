"""What agents can do: functions as tools, the safe built-in ones, the registry."""
