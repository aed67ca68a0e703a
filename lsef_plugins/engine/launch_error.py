"""What a user asked for and cannot have."""


class LaunchError(ValueError):
    """Something on the command line or in the config cannot work; the message says what and how to go on."""
