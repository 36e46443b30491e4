//! PeekabooBridge: UI automation through the app's permissions. Arrives with part 6.
