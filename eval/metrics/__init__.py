"""How far one set of videos is from another. Each file holds one kind of measure, as pure functions of frames."""
