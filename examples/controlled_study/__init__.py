"""The paper's §4 to §6 in miniature: when a diff vector transfers, measured (docs/study.md)."""
