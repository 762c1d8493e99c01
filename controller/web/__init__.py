"""What the controller shows over HTTP where `--http` asks for it: nothing of it is loaded otherwise."""
