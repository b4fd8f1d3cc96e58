"""What results say: statistics, outcomes by row, curves by depth, gaps, the answer."""
