"""weldnet's Hydra configs, installed as `weldnet.configs`."""
