"""What a reader sees: a table as text, and one HTML file that needs nothing beside itself."""
