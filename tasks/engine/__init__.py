"""The study engine: plan, train or reuse, compare, publish. It knows no kind of study."""
