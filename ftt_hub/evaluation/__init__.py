"""Models side by side on tasks and text: m_t, m_t + Δ and others, with intervals (extra `eval`)."""
