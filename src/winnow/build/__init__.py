"""From a composed configuration to something that runs. Only here do configuration nodes become objects."""
