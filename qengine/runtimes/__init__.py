"""What runtimes really compute: profiles, and their arithmetic on columns or tensors."""
