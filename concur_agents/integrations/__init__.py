"""What makes other libraries' calls and runs the gate's turns and agents: one module a library."""
