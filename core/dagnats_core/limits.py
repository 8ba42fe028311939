"""Every bound of the system: a named constant with its unit and its reason. An error that refuses names the bound."""

KIB = 1024
MIB = 1024 * KIB
SECOND_MS = 1000
MINUTE_MS = 60 * SECOND_MS
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS

# -- names (design: they become subject tokens and bucket keys, so they are checked before one is built)
NAME_LENGTH_MAX = 64
SITE_LENGTH_MAX = 32

# -- definitions
DEFINITION_BYTES_MAX = 512 * KIB
"""A definition is one message and must fit a request beside its envelope (server default max_payload: 1 MiB)."""
DEFINITION_NODES_MAX = 200_000
"""Values in a definition once YAML aliases are written out."""
STEPS_MAX = 1000
DEPENDENCIES_MAX = 1000
METADATA_ENTRIES_MAX = 64
METADATA_BYTES_MAX = 16 * KIB
VERSION_TEXT_CHARS_MAX = 128
FIELD_PATH_CHARS_MAX = 512
EXPRESSION_BYTES_MAX = 4 * KIB
EXPRESSION_COST_MAX = 2_000_000
"""Units of work that the expressions of one step may do, about a node of a syntax tree each: 0.1 s, 0.5 s at worst."""
EXPRESSION_VALUE_BYTES_MAX = 8 * MIB
"""JSON that the expressions of one step may read, and may give: decoding it holds the engine for about 50 ms."""
EXPRESSION_PATTERN_BYTES_MAX = 256
EXPRESSION_PATTERN_WEIGHT_MAX = 20_000
"""Instructions, roughly, of a pattern's program: its length with counted repetitions multiplied out."""
EXPRESSIONS_MAX = 10_000
"""Of one definition; compiling one takes about 0.1 ms."""
SCHEMA_BYTES_MAX = 128 * KIB
SCHEMA_VISITS_MAX = 100_000
"""Schemas that one schema may become when its references are written out; each costs up to 0.1 µs per value."""
SCHEMA_VALUE_BYTES_MAX = 8 * MIB
"""JSON that a schema is applied to: decoding and checking it takes about 0.1 s."""
SCHEMA_EXPLAINED_BYTES_MAX = 16 * KIB
"""Of values larger than this, only the first problem is told: each costs 10 µs and a kilobyte."""
SCHEMA_PATTERN_PROGRAM_BYTES_MAX = 1 * MIB
"""A compiled `pattern`: room for `^.{1,1000}$`."""
JSON_DEPTH_MAX = 64
"""Deeper JSON than this is refused everywhere, so that no recursive reader meets its own limit first."""
VERSIONS_MAX = 1000
PROBLEMS_MAX = 100
DURATION_MS_MAX = 365 * DAY_MS
ATTEMPTS_MAX = 100_000
ASKED_ATTEMPTS_MAX = 1000
"""Attempts of a step without a retry policy whose handler asks to be tried again at a time that it names."""
RETRY_DELAY_MS_MAX = DAY_MS
RETRY_AFTER_MS_MAX = DAY_MS
RETRY_MULTIPLIER_MAX = 1000

# -- runs
TAGS_MAX = 32
TAG_LENGTH_MAX = 128
REQUEST_ID_LENGTH_MAX = 256
ERROR_MESSAGE_CHARS_MAX = 4000
"""A worker's error text is cut here: it is stored with the run and shown in lists."""
DECISION_COST_MAX = 4_000_000
"""Units of expression work (about a second) after which a decision leaves the rest of its steps to the next one, so
that one run with many costly expressions does not hold up the others of its engine."""
ERROR_DETAILS_BYTES_MAX = 16 * KIB
"""Larger details of an error are dropped: they are stored with the run, once more in its record, and shown."""
WORKER_ID_LENGTH_MAX = 128
SNAPSHOT_DECISIONS = 500
"""A run's state is snapshotted into its log every so many decisions: a fold reads at most about two of these."""
MULTI_LAST_SUBJECTS_MAX = 1024
"""nats-server refuses a `multi_last` request that matches more subjects (413)."""
BATCH_MESSAGES_MAX = 1000
"""nats-server's bound of one atomic batch (ADR-50)."""
BATCH_MESSAGES_TARGET = 600
"""Where the committer cuts a batch: 250-900 messages commit with a few fsyncs."""
RUNS_IN_MEMORY_MAX = 50_000
"""Run actors one engine keeps; a run beyond it is folded from the log when it is needed again."""
LOADS_IN_FLIGHT_MAX = 16
"""Runs that a partition folds from the log at the same time, after a takeover for instance."""
HOT_MS_MIN = 10 * MINUTE_MS
"""An ended run stays in the log at least so long, so that every late report finds its answer there."""

# -- payloads
INLINE_BYTES_MAX = 256 * KIB
"""Values above this go to the object store and are passed by reference."""
MESSAGE_BYTES_MAX = 960 * KIB
"""Headers + payload of any message we send; the server cuts a connection that exceeds its max_payload (1 MiB)."""
PAYLOAD_BYTES_MAX = 64 * MIB
PAYLOAD_CHUNK_BYTES_MAX = 512 * KIB
HTTP_BODY_BYTES_MAX = PAYLOAD_BYTES_MAX

# -- control plane
PAGE_ITEMS_DEFAULT = 50
PAGE_ITEMS_MAX = 1000
PAGE_BYTES_MAX = 512 * KIB
START_MANY_MAX = 1000
REQUESTS_IN_FLIGHT_MAX = 4096
"""Requests one API process works on at a time; the next one is answered 429 `busy`."""
WATCH_WAIT_MS_MAX = 30 * SECOND_MS
REQUESTS_WAITING_MAX = 16_384
"""Requests of one API process that wait for something to happen in a run; they do not count as in flight."""
WATCHED_RUNS_MAX = 1024
"""Runs of which one API process reads every message, each by a consumer of its own."""
REQUEST_TIMEOUT_MS = 5 * SECOND_MS

# -- engine
PARTITIONS = 16
"""Partitions of a new site; fixed when it is made. At least 2 x shards."""
LEASE_TTL_MS = 4 * SECOND_MS
LEASE_RENEW_MS = SECOND_MS // 2
"""TTL and this bound a takeover: at most 4.5 s after `kill -9` a partition is somebody else's."""
LEASE_MARGIN_MS = 5 * SECOND_MS // 2
"""An owner trusts its lease only until `renewed + TTL - margin` by its own clock: longer than REPORT_TIMEOUT_MS, so
that an answer given at the last moment and delivered late finds nobody who still waits for it."""
REPORT_TIMEOUT_MS = 2 * SECOND_MS
"""How long a worker waits for the answer to a report before it sends it again."""
PUBLISH_TIMEOUT_MS = 2 * SECOND_MS
"""After this an unanswered publish is unknown, and the owner stamps again."""
FLOOR_WRITE_MS = 1 * SECOND_MS

# -- workers
ACK_WAIT_MS = 15 * SECOND_MS
CLAIM_AFTER_MS = 2 * SECOND_MS
DELIVERIES_BEFORE_LOST = 5
STARTED_AFTER_MS = 1 * SECOND_MS
ALIVE_EVERY_MS = 10 * SECOND_MS
TASKS_IN_FLIGHT_MAX = 10_000
"""`max_ack_pending` of a task consumer: tasks of one type handed out and not yet finished."""
WORKER_TTL_MS = 60 * SECOND_MS
WORKER_BEAT_MS = 20 * SECOND_MS
WORKER_CONCURRENCY_DEFAULT = 100
DRAIN_MS = 10 * SECOND_MS

# -- shutdown
STOP_MS_MAX = 15 * SECOND_MS
"""From the first signal to the end of the process; then it exits by force and names what hung."""
LAST_WORDS_MS_MAX = 1 * SECOND_MS
"""How long a forced exit tries to write its line to a log that nobody may be reading."""

# -- embedded nats-server
SERVER_PAYLOAD_BYTES_MAX = MIB
"""`max_payload` of the server: its default, said aloud because MESSAGE_BYTES_MAX stands on it."""
SERVER_VERSION_MS_MAX = 10 * SECOND_MS
SERVER_START_MS_MAX = 2 * MINUTE_MS
"""Reading 100,000 messages back takes 0.3 s; this is for a store a hundred times larger, on a slow disk."""
SERVER_STOP_MS_MAX = 5 * SECOND_MS
"""An idle server stops in 10 ms. After this it is killed, which loses nothing that was acknowledged."""
SERVER_LOCK_MS_MAX = 5 * SECOND_MS
"""How long a start waits for the dying server of an earlier life to let go of the store."""
SERVER_HEALTH_EVERY_MS = 2 * SECOND_MS
SERVER_HEALTH_MS_MAX = 2 * SECOND_MS
SERVER_UNHEALTHY_MS_MAX = 10 * SECOND_MS
"""A server that says so long that it is unhealthy, or says nothing, is started again."""
SERVER_RESTARTS_MAX = 20
SERVER_RESTARTS_WINDOW_MS = MINUTE_MS
"""More deaths than SERVER_RESTARTS_MAX within this window: the supervisor gives up."""
SERVER_RESTART_DELAY_MS_MAX = 2 * SECOND_MS
SERVER_LOG_LINE_BYTES_MAX = 8 * KIB
SERVER_STORE_SHARE_MAX = 0.9
"""Of the file system's size: a store that grows beyond is refused cleanly, and not when the disk is full."""
SERVER_FREE_BYTES_MIN = 16 * MIB
"""With less free disk a launch is of no use: nats-server stops writing a stream at the first error until it is
launched again."""
FREE_PORT_FIRST = 20_000
FREE_PORT_LAST = 32_000
"""Port 0 takes one of these: below the range from which systems give ports to outgoing connections, so that no
client that tries to come back can sit on the port (or connect to itself) while the server restarts."""
FREE_PORT_TRIES_MAX = 100

# -- bus
SEND_BUFFER_BYTES_MAX = 64 * MIB
"""Bytes that may wait in one connection's socket buffer; above it a publish is refused (`busy`)."""
REPLIES_AWAITED_MAX = 65_536
"""Requests, or publishes, that may wait for their answer on one connection."""
PULLS_WAITING_MAX = 16_384
"""Requests for tasks that workers may have waiting at one consumer; the server's default is 512."""
RETENTION_MS = 30 * DAY_MS
"""How long the archive keeps ended runs unless the configuration says otherwise."""
REQUEST_ANSWER_TTL_MS = DAY_MS
"""How long the first answer to a mutating request is kept for the same request id."""

# -- REST gateway
HTTP_REQUESTS_IN_FLIGHT_MAX = 2048
"""Requests one gateway works on at a time, event streams included; the next one is answered 429 `busy`."""
HTTP_STREAMS_MAX = 1024
"""Event streams (SSE) one gateway holds open; each costs one waiting request to the API."""
HTTP_BODY_BYTES_IN_FLIGHT_MAX = 4 * HTTP_BODY_BYTES_MAX
"""Bytes of request bodies in memory at a time; a body that does not fit is answered 429 `busy`."""
HTTP_BODY_WAIT_MS_MAX = 30 * SECOND_MS
"""The longest pause between two pieces of a request body."""
HTTP_LINGER_MS_MAX = 30 * SECOND_MS
"""How long the rest of a refused body is read and thrown away, so that its sender gets to read the answer."""
HTTP_HEAD_BYTES_MAX = 64 * KIB
"""Request line and headers together."""
HTTP_KEEP_ALIVE_MS = 15 * SECOND_MS
HTTP_HEARTBEAT_MS = 10 * SECOND_MS
"""An event stream that has nothing to say sends a comment after this long, so that proxies keep it open."""
HTTP_STOP_MS_MAX = 5 * SECOND_MS
"""A stopping gateway waits so long for requests in flight, then cuts them."""
HEALTH_PROBE_MS_MAX = 1500
"""How long `/health` waits for JetStream: with everything else the probe answers within 2 s."""

# -- worker SDK
PROGRESS_BYTES_MAX = 64 * KIB
"""One `ctx.progress`: unstored, for people who watch."""
REPORT_BACKOFF_MS = 100
REPORT_BACKOFF_MS_MAX = 5 * SECOND_MS
"""A report without an answer is sent again after pauses that double between these two."""
REPORTS_UNANSWERED_MAX = 1024
"""Finished attempts whose outcome is not stored yet; above it a worker takes no new tasks."""
REPORTS_UNANSWERED_BYTES_MAX = 64 * MIB
CANCEL_NOTICES_MAX = 100_000
CANCEL_NOTICE_MS = MINUTE_MS
"""How long a worker remembers that a run has ended: longer than a task published before that can be on its way."""
THREADS_ABANDONED_MAX = 32
"""Threads left behind by handlers that hang after their timeout; above it their slots stay taken."""
WORKER_TICK_MS = 250
"""How often a worker looks for attempts that need a sign of life."""
WORKER_RETRY_MS_MAX = 5 * SECOND_MS
"""The longest pause between a worker's attempts to reach the control plane."""

# -- configuration
CONFIG_BYTES_MAX = 64 * KIB
