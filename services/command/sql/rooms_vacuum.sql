-- Takes the dead rows of rooms off, unless somebody is doing so. The table stays as large as it was: it is filled again.
vacuum (skip_locked, truncate off) rooms
