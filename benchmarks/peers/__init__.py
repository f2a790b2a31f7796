"""What people do without RankScope, each as a process of its own."""
