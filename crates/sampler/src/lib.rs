//! Schedules, samplers, guidance and seeded noise; never sees a network.
