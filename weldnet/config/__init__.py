"""The only place where configuration becomes objects. Importing it costs no torch."""
