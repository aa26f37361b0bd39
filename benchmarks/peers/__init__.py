"""Small programs that the cases run in processes of their own."""
