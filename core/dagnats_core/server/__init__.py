"""The embedded nats-server: found, configured, started, watched, stopped. Nothing here knows of workflows.

    binary      which nats-server, and is it new enough
    settings    PURE settings -> text of its configuration file
    data_dir    whose data this is: lock, mode, site
    process     one life of one nats-server process
    supervisor  `EmbeddedServer`: keeps one such process alive from start to stop

It stands on POSIX: locks are `flock`, and a shell holds the lifeline between parent and child.
"""
