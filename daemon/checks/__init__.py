"""Whether a channel can be what it says: physics of its samples, judged once a second, with states and hysteresis."""
