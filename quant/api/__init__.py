"""One file for each verb that a user has."""
