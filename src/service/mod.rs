//! Launchd agents and systemd user units. Arrives with part 3.
