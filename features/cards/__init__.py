"""What a backbone is: its card, its network with its layers, and their order by depth."""
