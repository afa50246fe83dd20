"""jensen"""
