"""Which views a projection has. Pure."""

VIEWS: dict[str, tuple[str, ...]] = {
    "runs": ("proj_runs", "proj_steps", "proj_run_tags"),
    "room_feed": ("proj_room_events",),
}
"""The views of each projection. Their tables are called ``<view>_v<version>``."""
