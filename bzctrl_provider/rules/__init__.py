"""The rules of a deployment: routes and silences."""
