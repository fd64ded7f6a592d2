-- The data model of callboard: everything that agents coordinate through lives in these tables.
--
-- A store is made whole from this file, once, in one transaction; an older one is brought here by numbered
-- migrations. Tables without an underscore are the public model; tables that begin with `_` support them.
--
-- Rules that hold everywhere:
--   * Every table is STRICT, and every status, flag, time and JSON column has a CHECK with a name, so that widening
--     a set of values is two ALTERs and no rebuild.
--   * A time (`…_at`, `timestamp`) is UTC text in one format of 24 characters, `YYYY-MM-DDTHH:MM:SS.mmmZ`, written by
--     the server. It is for people; nothing is ordered or decided by it. Order is by `id` or `seq`.
--   * A deadline (`…_boot_ms`) is an integer: milliseconds of the host's boot clock, which counts suspend and is
--     never set back. `settings` keeps the id of the boot that these belong to; the first start after a reboot
--     carries them over.
--   * A foreign key stands where a row means nothing without another. Elsewhere an id is a name that may outlive its
--     row: agents, for one, are never deleted.
--   * `lead_id` names a crew: the id of its root lead, or the project's id where a crew has no lead. Each table says
--     whose it is: the store's, a project's, or a crew's.
--   * `search_words` holds what full-text search should find beside the text itself: the parts of its identifiers
--     that a tokenizer does not see.

PRAGMA application_id = 1667396196;         -- the bytes `cbrd`: tells a store from any other SQLite file
PRAGMA user_version = 1;                    -- version of this schema; a newer store is refused, an older one migrated
PRAGMA auto_vacuum = INCREMENTAL;           -- pruned pages can be given back; can only be chosen at birth
PRAGMA journal_mode = WAL;                  -- readers go on while one writes
PRAGMA foreign_keys = ON;                   -- references are enforced
PRAGMA synchronous = FULL;                  -- what was acknowledged survives a power cut; NORMAL by --durability normal
PRAGMA busy_timeout = 5000;                 -- wait up to 5 s for the write lock, in short random naps
PRAGMA cache_size = -64000;                 -- 64 MB of page cache, taken as it is needed
PRAGMA recursive_triggers = ON;             -- a replaced row fires its delete triggers
PRAGMA trusted_schema = OFF;                -- a store from elsewhere runs no function through its schema
PRAGMA cell_size_check = ON;                -- damaged pages are noticed when they are read
PRAGMA temp_store = MEMORY;                 -- no temporary files beside the repository
PRAGMA journal_size_limit = 67108864;       -- a log grown by a long reader shrinks back to 64 MB


-- === roster ===
-- Who is here, in which crew, through which process, with which credential, and what each role means.

-- Every agent that ever signed in; rows end as tombstones. Liveness is computed from the last sign of life, never
-- stored. Scope: project.
CREATE TABLE agent_roster (
    agent_id TEXT NOT NULL PRIMARY KEY,
    role TEXT NOT NULL,                     -- a `roles.id`
    model TEXT NOT NULL,                    -- `unknown` where it was not told
    status TEXT NOT NULL DEFAULT 'idle'     -- what the agent says of itself
        CONSTRAINT status_values CHECK (status IN ('idle', 'running', 'terminated')),
    session_id TEXT,                        -- session of the agent's own program
    project_id TEXT,
    provider TEXT,
    team_id TEXT NOT NULL DEFAULT 'default',
    created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
        CONSTRAINT created_at_time CHECK (created_at IS strftime('%Y-%m-%dT%H:%M:%fZ', created_at)),
    updated_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
        CONSTRAINT updated_at_time CHECK (updated_at IS strftime('%Y-%m-%dT%H:%M:%fZ', updated_at)),
    last_task_summary TEXT,
    metadata TEXT                           -- merged key by key
        CONSTRAINT metadata_json CHECK (json_valid(metadata) AND json_type(metadata) = 'object'),
    lead_id TEXT NOT NULL,                  -- the crew
    parent_id TEXT,                         -- the agent it answers to; parents form a tree
    capabilities TEXT NOT NULL DEFAULT '[]'
        CONSTRAINT capabilities_json CHECK (json_valid(capabilities) AND json_type(capabilities) = 'array'),
    name_key TEXT NOT NULL UNIQUE,          -- the look-alike fold of the id: no two agents read the same
    last_seen_boot_ms INTEGER NOT NULL DEFAULT 0, -- 0 = not since the host started
    last_seen_at TEXT
        CONSTRAINT last_seen_at_time CHECK (last_seen_at IS strftime('%Y-%m-%dT%H:%M:%fZ', last_seen_at)),
    signed_in_boot_ms INTEGER NOT NULL DEFAULT 0,
    terminated_at TEXT
        CONSTRAINT terminated_at_time CHECK (terminated_at IS strftime('%Y-%m-%dT%H:%M:%fZ', terminated_at)),
    termination_reason TEXT
) STRICT;
CREATE INDEX idx_agent_roster_status ON agent_roster (status);
CREATE INDEX idx_agent_roster_project ON agent_roster (project_id);
CREATE INDEX idx_agent_roster_project_team ON agent_roster (project_id, team_id);
CREATE INDEX idx_agent_roster_team ON agent_roster (team_id);
CREATE INDEX idx_agent_roster_session ON agent_roster (session_id);
CREATE INDEX idx_agent_roster_crew ON agent_roster (lead_id, agent_id);

-- What kinds of agent there are and how each is briefed. The built-in ones are put back at start-up if missing.
-- Scope: store.
CREATE TABLE roles (
    id TEXT NOT NULL PRIMARY KEY,           -- kebab-case
    name TEXT NOT NULL,
    description TEXT DEFAULT '',
    system_prompt TEXT DEFAULT '',
    color TEXT DEFAULT '#888',
    icon TEXT DEFAULT '🤖',
    built_in INTEGER DEFAULT 0
        CONSTRAINT built_in_flag CHECK (built_in IN (0, 1)),
    model TEXT                              -- preferred model of the role
) STRICT;

-- What a person changed about a role. It stands apart from the role, so that taking it back restores what was
-- there; NULL leaves the role's own value. Scope: store.
CREATE TABLE _role_overrides (
    id TEXT NOT NULL PRIMARY KEY REFERENCES roles (id) ON DELETE CASCADE,
    name TEXT,
    description TEXT,
    system_prompt TEXT,
    color TEXT,
    icon TEXT,
    model TEXT,
    set_by TEXT NOT NULL,
    set_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
        CONSTRAINT set_at_time CHECK (set_at IS strftime('%Y-%m-%dT%H:%M:%fZ', set_at))
) STRICT;

-- A lead and everyone under it. A crew keeps its id when its lead goes or hands over. Scope: project.
CREATE TABLE _crews (
    lead_id TEXT NOT NULL PRIMARY KEY,
    project_id TEXT NOT NULL,
    led_by TEXT,                            -- the agent that leads it now; NULL = leaderless
    created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
        CONSTRAINT created_at_time CHECK (created_at IS strftime('%Y-%m-%dT%H:%M:%fZ', created_at))
) STRICT;
CREATE INDEX _idx_crews_project ON _crews (project_id);

-- Server processes on this store. Pid and start ticks together name a process of one boot, so that a holder
-- whose process is gone can be told from one that is silent. Scope: store.
CREATE TABLE _processes (
    process_id TEXT NOT NULL PRIMARY KEY,
    pid INTEGER,
    start_ticks INTEGER,                    -- start time of the process in clock ticks since boot
    pid_namespace TEXT,                     -- a pid means nothing outside it
    transport TEXT NOT NULL
        CONSTRAINT transport_values CHECK (transport IN ('stdio', 'http', 'cli')),
    started_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
        CONSTRAINT started_at_time CHECK (started_at IS strftime('%Y-%m-%dT%H:%M:%fZ', started_at)),
    ended_at TEXT                           -- set by a clean stop
        CONSTRAINT ended_at_time CHECK (ended_at IS strftime('%Y-%m-%dT%H:%M:%fZ', ended_at)),
    gone_boot_ms INTEGER                    -- when it was first found missing; NULL = alive as far as known
) STRICT;
CREATE INDEX _idx_processes_gone ON _processes (gone_boot_ms) WHERE gone_boot_ms IS NOT NULL;

-- Which agents called through which stdio process. An agent is gone when the last of its processes is; one that
-- never came over a pipe is only ever silent. Scope: store.
CREATE TABLE _agent_processes (
    agent_id TEXT NOT NULL REFERENCES agent_roster (agent_id),
    process_id TEXT NOT NULL REFERENCES _processes (process_id) ON DELETE CASCADE,
    PRIMARY KEY (agent_id, process_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX _idx_agent_processes_process ON _agent_processes (process_id);

-- Bearer tokens by their hash; the token itself is shown once and stored nowhere. Scope: store.
CREATE TABLE _credentials (
    key_id TEXT NOT NULL PRIMARY KEY,
    kind TEXT NOT NULL
        CONSTRAINT kind_values CHECK (kind IN ('agent', 'human')),
    principal TEXT NOT NULL,                -- an agent's id or a person's name
    scope TEXT NOT NULL
        CONSTRAINT scope_values CHECK (scope IN ('worker', 'lead', 'observer', 'human')),
    sha256 BLOB NOT NULL
        CONSTRAINT sha256_length CHECK (length(sha256) = 32),
    created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
        CONSTRAINT created_at_time CHECK (created_at IS strftime('%Y-%m-%dT%H:%M:%fZ', created_at)),
    expires_unix_ms INTEGER,                -- wall clock: a token's end is a date; NULL = none
    revoked_at TEXT
        CONSTRAINT revoked_at_time CHECK (revoked_at IS strftime('%Y-%m-%dT%H:%M:%fZ', revoked_at)),
    last_used_at TEXT
        CONSTRAINT last_used_at_time CHECK (last_used_at IS strftime('%Y-%m-%dT%H:%M:%fZ', last_used_at))
) STRICT;
CREATE INDEX _idx_credentials_principal ON _credentials (principal);

-- The public halves of the keys that people sign outcomes of decisions with; the private ones are never here. A key
-- that was revoked stays, so that its signatures are told from unknown ones. Scope: store.
CREATE TABLE _signing_keys (
    key_id TEXT NOT NULL PRIMARY KEY,       -- the first 20 hexadecimal digits of the key's SHA-256
    principal TEXT NOT NULL,                -- a person's name
    public_key BLOB NOT NULL                -- Ed25519
        CONSTRAINT public_key_length CHECK (length(public_key) = 32),
    created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
        CONSTRAINT created_at_time CHECK (created_at IS strftime('%Y-%m-%dT%H:%M:%fZ', created_at)),
    revoked_at TEXT
        CONSTRAINT revoked_at_time CHECK (revoked_at IS strftime('%Y-%m-%dT%H:%M:%fZ', revoked_at))
) STRICT;


-- === locks ===
-- Who may edit which path until when, who waits, and which path must rest.
-- A path here is canonical: `<project_id>:<relative posix path or pattern>`. Its `prefix` is the part before the
-- first wildcard; two patterns can only meet where one prefix is the other's ancestor or lies below it, so a
-- conflict is looked up by the ancestors' list and one range, whatever the number of locks.

-- Who may edit which path until when; one row per exclusive holder. Scope: project.
CREATE TABLE file_locks (
    file_path TEXT NOT NULL PRIMARY KEY,
    agent_id TEXT NOT NULL,
    agent_role TEXT NOT NULL,
    reason TEXT DEFAULT '',
    acquired_at TEXT DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
        CONSTRAINT acquired_at_time CHECK (acquired_at IS strftime('%Y-%m-%dT%H:%M:%fZ', acquired_at)),
    expires_at TEXT NOT NULL
        CONSTRAINT expires_at_time CHECK (expires_at IS strftime('%Y-%m-%dT%H:%M:%fZ', expires_at)),
    project_id TEXT DEFAULT '',             -- '' = no project
    prefix TEXT NOT NULL,
    fence INTEGER NOT NULL,                 -- number of this grant, rising over the life of the store
    ttl_ms INTEGER NOT NULL,                -- what a renewal adds
    granted_boot_ms INTEGER NOT NULL,
    expires_boot_ms INTEGER NOT NULL,       -- the lease is over from this millisecond on
    renew_until_boot_ms INTEGER NOT NULL,   -- end of automatic renewal
    renewed_at TEXT
        CONSTRAINT renewed_at_time CHECK (renewed_at IS strftime('%Y-%m-%dT%H:%M:%fZ', renewed_at)),
    task_id TEXT                            -- the claim that it was taken with and ends with
) STRICT;
CREATE INDEX idx_file_locks_agent ON file_locks (agent_id);
CREATE INDEX idx_file_locks_project ON file_locks (project_id);
CREATE INDEX _idx_file_locks_prefix ON file_locks (prefix);
CREATE INDEX _idx_file_locks_expires ON file_locks (expires_boot_ms);

-- Shared leases: the columns of `file_locks`, one row per path and holder. Scope: project.
CREATE TABLE _lock_holders (
    file_path TEXT NOT NULL,
    agent_id TEXT NOT NULL,
    agent_role TEXT NOT NULL,
    reason TEXT DEFAULT '',
    acquired_at TEXT DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
        CONSTRAINT acquired_at_time CHECK (acquired_at IS strftime('%Y-%m-%dT%H:%M:%fZ', acquired_at)),
    expires_at TEXT NOT NULL
        CONSTRAINT expires_at_time CHECK (expires_at IS strftime('%Y-%m-%dT%H:%M:%fZ', expires_at)),
    project_id TEXT DEFAULT '',
    prefix TEXT NOT NULL,
    fence INTEGER NOT NULL,
    ttl_ms INTEGER NOT NULL,
    granted_boot_ms INTEGER NOT NULL,
    expires_boot_ms INTEGER NOT NULL,
    renew_until_boot_ms INTEGER NOT NULL,
    renewed_at TEXT
        CONSTRAINT renewed_at_time CHECK (renewed_at IS strftime('%Y-%m-%dT%H:%M:%fZ', renewed_at)),
    task_id TEXT,
    PRIMARY KEY (file_path, agent_id)
) STRICT;
CREATE INDEX _idx_lock_holders_agent ON _lock_holders (agent_id);
CREATE INDEX _idx_lock_holders_project ON _lock_holders (project_id);
CREATE INDEX _idx_lock_holders_prefix ON _lock_holders (prefix);
CREATE INDEX _idx_lock_holders_expires ON _lock_holders (expires_boot_ms);

-- Every lease, exclusive and shared, with its mode. What asks "who holds" asks this.
CREATE VIEW _leases AS
    SELECT file_path, agent_id, agent_role, reason, acquired_at, expires_at, project_id, prefix, fence, ttl_ms,
           granted_boot_ms, expires_boot_ms, renew_until_boot_ms, renewed_at, task_id, 'exclusive' AS mode
      FROM file_locks
    UNION ALL
    SELECT file_path, agent_id, agent_role, reason, acquired_at, expires_at, project_id, prefix, fence, ttl_ms,
           granted_boot_ms, expires_boot_ms, renew_until_boot_ms, renewed_at, task_id, 'shared' AS mode
      FROM _lock_holders;

-- Who waits for a lease, first come first served by ticket. A ticket lives by the waiting call's own short lease, or
-- by the time for which its place is kept. Scope: project.
CREATE TABLE _lock_waiters (
    ticket INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    agent_id TEXT NOT NULL,
    agent_role TEXT NOT NULL,
    project_id TEXT NOT NULL DEFAULT '',
    lead_id TEXT NOT NULL,
    mode TEXT NOT NULL
        CONSTRAINT mode_values CHECK (mode IN ('exclusive', 'shared')),
    request TEXT NOT NULL,                  -- digest of patterns and mode: the same request resumes its ticket
    reason TEXT NOT NULL DEFAULT '',
    ttl_ms INTEGER NOT NULL,
    task_id TEXT,
    enqueued_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
        CONSTRAINT enqueued_at_time CHECK (enqueued_at IS strftime('%Y-%m-%dT%H:%M:%fZ', enqueued_at)),
    enqueued_boot_ms INTEGER NOT NULL,
    call_until_boot_ms INTEGER NOT NULL DEFAULT 0, -- lease of the waiting call; 0 = no call waits
    queue_until_boot_ms INTEGER NOT NULL DEFAULT 0, -- how long the place outlives its call; 0 = not
    lapsed_boot_ms INTEGER NOT NULL DEFAULT 0, -- since when its call is silent: it then blocks nobody; 0 = it is not
    UNIQUE (agent_id, request)
) STRICT;

-- The paths of each ticket. Scope: project.
CREATE TABLE _lock_waiter_paths (
    ticket INTEGER NOT NULL REFERENCES _lock_waiters (ticket) ON DELETE CASCADE,
    file_path TEXT NOT NULL,
    prefix TEXT NOT NULL,
    is_file INTEGER NOT NULL DEFAULT 0      -- a single file, of which a grant counts as a touch
        CONSTRAINT is_file_flag CHECK (is_file IN (0, 1)),
    PRIMARY KEY (ticket, file_path)
) STRICT, WITHOUT ROWID;
CREATE INDEX _idx_lock_waiter_paths_prefix ON _lock_waiter_paths (prefix);

-- Paths that rest after a lease ended by itself, so that a late writer is not met by a new one. Scope: project.
CREATE TABLE _lock_delays (
    file_path TEXT NOT NULL PRIMARY KEY,
    prefix TEXT NOT NULL,
    until_boot_ms INTEGER NOT NULL,
    agent_id TEXT NOT NULL                  -- whose lease ended
) STRICT, WITHOUT ROWID;
CREATE INDEX _idx_lock_delays_prefix ON _lock_delays (prefix);


-- === history ===
-- What happened, in a ledger that nobody edits, and who knows which file.

-- The append-only ledger of everything that happened, written in the transaction of the effect. Each row carries
-- the hash of the one before. Scope: crew.
CREATE TABLE activity_log (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    agent_id TEXT NOT NULL,
    agent_role TEXT NOT NULL,
    action_type TEXT NOT NULL,              -- an open set
    summary TEXT NOT NULL,
    details TEXT DEFAULT '{}'
        CONSTRAINT details_json CHECK (json_valid(details) AND json_type(details) = 'object'),
    timestamp TEXT DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
        CONSTRAINT timestamp_time CHECK (timestamp IS strftime('%Y-%m-%dT%H:%M:%fZ', timestamp)),
    project_id TEXT DEFAULT '',             -- '' = no project
    seq INTEGER NOT NULL GENERATED ALWAYS AS (id) VIRTUAL, -- place in the chain, without gaps; order is by `id`
    prev_hash BLOB NOT NULL
        CONSTRAINT prev_hash_length CHECK (length(prev_hash) = 32),
    entry_hash BLOB NOT NULL                -- SHA-256 of the previous hash and this row
        CONSTRAINT entry_hash_length CHECK (length(entry_hash) = 32),
    lead_id TEXT NOT NULL DEFAULT '',       -- the crew that it concerns; '' = all
    origin TEXT NOT NULL DEFAULT 'server'   -- whose word it is: an agent's note never passes for the server's
        CONSTRAINT origin_values CHECK (origin IN ('server', 'agent')),
    search_words TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX idx_activity_agent ON activity_log (agent_id);
CREATE INDEX idx_activity_type ON activity_log (action_type);
CREATE INDEX idx_activity_project ON activity_log (project_id);

CREATE TRIGGER _activity_log_keeps_rows BEFORE UPDATE ON activity_log
BEGIN SELECT raise(ABORT, 'activity_log is append-only'); END;

-- Stretches of the ledger that were exported and closed with their last hash. Only rows of such a stretch may
-- leave the table. Scope: store.
CREATE TABLE _activity_seals (
    first_seq INTEGER NOT NULL PRIMARY KEY,
    last_seq INTEGER NOT NULL,
    last_hash BLOB NOT NULL                 -- `entry_hash` of the last row: the chain goes on from it
        CONSTRAINT last_hash_length CHECK (length(last_hash) = 32),
    sealed_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
        CONSTRAINT sealed_at_time CHECK (sealed_at IS strftime('%Y-%m-%dT%H:%M:%fZ', sealed_at)),
    CONSTRAINT seal_order CHECK (first_seq <= last_seq)
) STRICT;

CREATE TRIGGER _activity_log_keeps_unsealed_rows BEFORE DELETE ON activity_log
WHEN NOT EXISTS (SELECT 1 FROM _activity_seals WHERE old.id BETWEEN first_seq AND last_seq)
BEGIN SELECT raise(ABORT, 'activity_log is append-only'); END;

-- How much happened on a day, of the entries that left the ledger in sealed segments. Scope: crew.
CREATE TABLE _activity_days (
    day TEXT NOT NULL,                      -- `YYYY-MM-DD`, UTC
    project_id TEXT NOT NULL,
    lead_id TEXT NOT NULL,                  -- '' = all crews of the project
    action_type TEXT NOT NULL,
    entries INTEGER NOT NULL,
    PRIMARY KEY (day, project_id, lead_id, action_type)
) STRICT, WITHOUT ROWID;

-- How far each reader has caught up with the ledger. Scope: store.
CREATE TABLE _activity_cursors (
    reader TEXT NOT NULL PRIMARY KEY,       -- an agent's id or a person's name
    activity_id INTEGER NOT NULL,           -- last row that was shown
    updated_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
        CONSTRAINT updated_at_time CHECK (updated_at IS strftime('%Y-%m-%dT%H:%M:%fZ', updated_at))
) STRICT, WITHOUT ROWID;

-- Which agent touched which file, when, how often and how; files only, never patterns. Scope: project.
CREATE TABLE agent_file_history (
    agent_id TEXT NOT NULL,
    agent_role TEXT NOT NULL,
    lead_id TEXT NOT NULL,
    file_path TEXT NOT NULL,                -- canonical, as in `file_locks`
    first_touched_at TEXT DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
        CONSTRAINT first_touched_at_time
        CHECK (first_touched_at IS strftime('%Y-%m-%dT%H:%M:%fZ', first_touched_at)),
    last_touched_at TEXT DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
        CONSTRAINT last_touched_at_time CHECK (last_touched_at IS strftime('%Y-%m-%dT%H:%M:%fZ', last_touched_at)),
    touch_count INTEGER DEFAULT 1,          -- of every kind together
    project_id TEXT NOT NULL DEFAULT '',
    last_action TEXT NOT NULL DEFAULT 'lock'
        CONSTRAINT last_action_values CHECK (last_action IN ('edit', 'read', 'commit', 'lock')),
    edit_count INTEGER NOT NULL DEFAULT 0,
    read_count INTEGER NOT NULL DEFAULT 0,
    commit_count INTEGER NOT NULL DEFAULT 0,
    lock_count INTEGER NOT NULL DEFAULT 0,  -- intent rather than work
    last_seq INTEGER NOT NULL DEFAULT 0,    -- `activity_log.id` of the last touch: the order of touches
    PRIMARY KEY (agent_id, lead_id, file_path)
) STRICT;
CREATE INDEX idx_file_history_file ON agent_file_history (file_path, lead_id);
CREATE INDEX idx_file_history_agent ON agent_file_history (agent_id, lead_id);
CREATE INDEX _idx_file_history_newest ON agent_file_history (project_id, last_seq);

-- Full text of the ledger. Every writing call adds entries, and to index one costs a third of such a call; so
-- they are indexed many at a time, behind the answers and before each search. `_activity_unindexed` is what is
-- still to come: ids have no gaps, so all up to the last one that is indexed are.
CREATE VIRTUAL TABLE _fts_activity USING fts5 (
    summary, details, search_words,
    content = 'activity_log', content_rowid = 'id', tokenize = 'porter unicode61 remove_diacritics 2'
);
CREATE VIEW _activity_unindexed AS
    SELECT id, summary, details, search_words FROM activity_log
     WHERE id > (SELECT coalesce(max(id), 0) FROM _fts_activity_docsize);
CREATE TRIGGER _fts_activity_delete AFTER DELETE ON activity_log
WHEN old.id <= (SELECT coalesce(max(id), 0) FROM _fts_activity_docsize) BEGIN
    INSERT INTO _fts_activity (_fts_activity, rowid, summary, details, search_words)
    VALUES ('delete', old.id, old.summary, old.details, old.search_words);
END;


-- === messages ===
-- One inbox per agent: everything addressed to it is a row here, from acceptance to acknowledgement.

-- One row per message and recipient. `queued` = accepted and not acknowledged, `delivered` = acknowledged with a
-- valid receipt, `expired` = ended with a reason. Scope: crew.
CREATE TABLE message_queue (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    target_agent_id TEXT NOT NULL,
    source_agent_id TEXT,                   -- NULL = the server itself
    message_type TEXT NOT NULL
        CONSTRAINT message_type_values CHECK (message_type IN ('agent_message', 'delegation_result', 'broadcast',
            'system', 'group_message', 'delegation', 'task', 'lock', 'decision', 'timer')),
    payload TEXT NOT NULL                   -- text, mentions, and references to what it is about
        CONSTRAINT payload_json CHECK (json_valid(payload) AND json_type(payload) = 'object'),
    status TEXT NOT NULL DEFAULT 'queued'
        CONSTRAINT status_values CHECK (status IN ('queued', 'delivered', 'expired')),
    attempts INTEGER NOT NULL DEFAULT 0,    -- times that it was handed out
    created_at TEXT DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
        CONSTRAINT created_at_time CHECK (created_at IS strftime('%Y-%m-%dT%H:%M:%fZ', created_at)),
    delivered_at TEXT
        CONSTRAINT delivered_at_time CHECK (delivered_at IS strftime('%Y-%m-%dT%H:%M:%fZ', delivered_at)),
    project_id TEXT,
    lead_id TEXT NOT NULL DEFAULT '',
    source_role TEXT,                       -- from the roster at sending, never from the sender's words
    verified INTEGER NOT NULL DEFAULT 0     -- whether a token vouched for the sender
        CONSTRAINT verified_flag CHECK (verified IN (0, 1)),
    priority TEXT NOT NULL DEFAULT 'normal'
        CONSTRAINT priority_values CHECK (priority IN ('normal', 'high', 'urgent')),
    reply_to INTEGER,                       -- id of the message that it answers
    group_message_id TEXT REFERENCES chat_group_messages (id), -- a group post's text is stored once, there
    visible_boot_ms INTEGER NOT NULL DEFAULT 0, -- handed out to nobody before: the receipt's time, then a pause
    visible_at TEXT
        CONSTRAINT visible_at_time CHECK (visible_at IS strftime('%Y-%m-%dT%H:%M:%fZ', visible_at)),
    receipt TEXT,                           -- the newest hand-out; what acknowledges it
    dedup_key TEXT,                         -- the sender's request key
    payload_hash BLOB                       -- tells a repeated key from a reused one
        CONSTRAINT payload_hash_length CHECK (length(payload_hash) = 32),
    expires_boot_ms INTEGER,                -- end of its life; NULL = none
    expires_at TEXT
        CONSTRAINT expires_at_time CHECK (expires_at IS strftime('%Y-%m-%dT%H:%M:%fZ', expires_at)),
    expired_reason TEXT
        CONSTRAINT expired_reason_values
        CHECK (expired_reason IN ('max_attempts', 'ttl', 'target_gone', 'cancelled')),
    expired_at TEXT
        CONSTRAINT expired_at_time CHECK (expired_at IS strftime('%Y-%m-%dT%H:%M:%fZ', expired_at)),
    last_error TEXT,                        -- why it was returned last
    ordered_key TEXT,                       -- rows of one key are handed out one after the other
    told INTEGER NOT NULL DEFAULT 0         -- whether a client's hook has told its reader that it waits
        CONSTRAINT told_flag CHECK (told IN (0, 1)),
    search_words TEXT NOT NULL DEFAULT '',
    priority_rank INTEGER NOT NULL GENERATED ALWAYS AS
        (CASE priority WHEN 'urgent' THEN 0 WHEN 'high' THEN 1 ELSE 2 END) VIRTUAL, -- order in the inbox
    text TEXT GENERATED ALWAYS AS
        (CASE WHEN json_valid(payload) THEN json_extract(payload, '$.text') END) VIRTUAL -- what search reads
) STRICT;
CREATE INDEX idx_mq_target_status ON message_queue (target_agent_id, status);
CREATE INDEX idx_mq_project ON message_queue (project_id);
-- The inbox: cost follows what is queued, not what was ever delivered.
CREATE INDEX _idx_mq_inbox ON message_queue (target_agent_id, priority_rank, id) WHERE status = 'queued';
-- Quotas count what is queued for a target, and from one sender.
CREATE INDEX _idx_mq_quota ON message_queue (target_agent_id, source_agent_id) WHERE status = 'queued';
CREATE INDEX _idx_mq_ordered ON message_queue (target_agent_id, ordered_key, id)
    WHERE status = 'queued' AND ordered_key IS NOT NULL;
CREATE INDEX _idx_mq_expires ON message_queue (expires_boot_ms)
    WHERE status = 'queued' AND expires_boot_ms IS NOT NULL;
-- What was handed out too often, to be ended once its last receipt has lapsed; a query repeats the WHERE terms.
CREATE INDEX _idx_mq_worn_out ON message_queue (visible_boot_ms) WHERE status = 'queued' AND attempts >= 5;
-- The dead letters of a crew, for its alerts.
CREATE INDEX _idx_mq_expired ON message_queue (lead_id, id) WHERE status = 'expired';
CREATE INDEX _idx_mq_source ON message_queue (source_agent_id);
CREATE INDEX _idx_mq_group_message ON message_queue (group_message_id) WHERE group_message_id IS NOT NULL;
CREATE UNIQUE INDEX _idx_mq_receipt ON message_queue (receipt) WHERE receipt IS NOT NULL;
-- One send reaches each target once; a fan-out shares its key.
CREATE UNIQUE INDEX _idx_mq_dedup ON message_queue (source_agent_id, dedup_key, target_agent_id)
    WHERE dedup_key IS NOT NULL;

-- Full text of the mail; a group post is found through `chat_group_messages`.
CREATE VIRTUAL TABLE _fts_queue USING fts5 (
    text, search_words,
    content = 'message_queue', content_rowid = 'id', tokenize = 'porter unicode61 remove_diacritics 2'
);
CREATE TRIGGER _fts_queue_insert AFTER INSERT ON message_queue BEGIN
    INSERT INTO _fts_queue (rowid, text, search_words) VALUES (new.id, new.text, new.search_words);
END;
CREATE TRIGGER _fts_queue_delete AFTER DELETE ON message_queue BEGIN
    INSERT INTO _fts_queue (_fts_queue, rowid, text, search_words)
    VALUES ('delete', old.id, old.text, old.search_words);
END;
CREATE TRIGGER _fts_queue_update AFTER UPDATE OF payload, search_words ON message_queue BEGIN
    INSERT INTO _fts_queue (_fts_queue, rowid, text, search_words)
    VALUES ('delete', old.id, old.text, old.search_words);
    INSERT INTO _fts_queue (rowid, text, search_words) VALUES (new.id, new.text, new.search_words);
END;


-- === conversations ===
-- Durable transcripts, apart from the mail.

-- One transcript of one agent, optionally about one task. Scope: crew.
CREATE TABLE conversations (
    id TEXT NOT NULL PRIMARY KEY,
    agent_id TEXT NOT NULL,
    task_id TEXT,                           -- a `dag_tasks.id`
    created_at TEXT DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
        CONSTRAINT created_at_time CHECK (created_at IS strftime('%Y-%m-%dT%H:%M:%fZ', created_at)),
    title TEXT,
    lead_id TEXT NOT NULL DEFAULT '',
    project_id TEXT NOT NULL DEFAULT '',
    seq INTEGER NOT NULL UNIQUE             -- order of starting; the cursor
) STRICT;
CREATE INDEX idx_conversations_agent ON conversations (agent_id);
CREATE INDEX _idx_conversations_lead ON conversations (lead_id, seq);

-- The lines of a transcript; they go with it. Scope: crew.
CREATE TABLE messages (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    conversation_id TEXT NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
    sender TEXT NOT NULL,                   -- whose words they are, as the writer says: an open set
    content TEXT NOT NULL,
    from_role TEXT,                         -- role of the writer, from the roster
    timestamp TEXT DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
        CONSTRAINT timestamp_time CHECK (timestamp IS strftime('%Y-%m-%dT%H:%M:%fZ', timestamp)),
    search_words TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX idx_messages_conversation ON messages (conversation_id);

-- Full text of the transcripts.
CREATE VIRTUAL TABLE _fts_messages USING fts5 (
    content, search_words,
    content = 'messages', content_rowid = 'id', tokenize = 'porter unicode61 remove_diacritics 2'
);
CREATE TRIGGER _fts_messages_insert AFTER INSERT ON messages BEGIN
    INSERT INTO _fts_messages (rowid, content, search_words) VALUES (new.id, new.content, new.search_words);
END;
CREATE TRIGGER _fts_messages_delete AFTER DELETE ON messages BEGIN
    INSERT INTO _fts_messages (_fts_messages, rowid, content, search_words)
    VALUES ('delete', old.id, old.content, old.search_words);
END;
CREATE TRIGGER _fts_messages_update AFTER UPDATE OF content, search_words ON messages BEGIN
    INSERT INTO _fts_messages (_fts_messages, rowid, content, search_words)
    VALUES ('delete', old.id, old.content, old.search_words);
    INSERT INTO _fts_messages (rowid, content, search_words) VALUES (new.id, new.content, new.search_words);
END;


-- === chat ===
-- Named rooms of a crew.

-- A named room of one crew. Scope: crew.
CREATE TABLE chat_groups (
    name TEXT NOT NULL,
    lead_id TEXT NOT NULL,
    project_id TEXT,
    roles TEXT                              -- role ids: later agents of these roles join by themselves
        CONSTRAINT roles_json CHECK (json_valid(roles) AND json_type(roles) = 'array'),
    archived INTEGER DEFAULT 0
        CONSTRAINT archived_flag CHECK (archived IN (0, 1)),
    created_at TEXT DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
        CONSTRAINT created_at_time CHECK (created_at IS strftime('%Y-%m-%dT%H:%M:%fZ', created_at)),
    created_by TEXT,
    PRIMARY KEY (name, lead_id)
) STRICT;
CREATE INDEX _idx_chat_groups_lead ON chat_groups (lead_id);

-- Who sits in which room, and how far each has read. Scope: crew.
CREATE TABLE chat_group_members (
    group_name TEXT NOT NULL,
    lead_id TEXT NOT NULL,
    agent_id TEXT NOT NULL,
    added_at TEXT DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
        CONSTRAINT added_at_time CHECK (added_at IS strftime('%Y-%m-%dT%H:%M:%fZ', added_at)),
    added_by TEXT,
    read_seq INTEGER NOT NULL DEFAULT 0,    -- `seq` of the last post that was read
    PRIMARY KEY (group_name, lead_id, agent_id),
    FOREIGN KEY (group_name, lead_id) REFERENCES chat_groups (name, lead_id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX _idx_chat_group_members_agent ON chat_group_members (agent_id);

-- Who left a room or was taken out of it: its standing roles do not bring them back. Scope: crew.
CREATE TABLE _chat_group_leavers (
    group_name TEXT NOT NULL,
    lead_id TEXT NOT NULL,
    agent_id TEXT NOT NULL,
    PRIMARY KEY (group_name, lead_id, agent_id),
    FOREIGN KEY (group_name, lead_id) REFERENCES chat_groups (name, lead_id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

-- What was said in a room, with reactions. Scope: crew.
CREATE TABLE chat_group_messages (
    id TEXT NOT NULL PRIMARY KEY,
    group_name TEXT NOT NULL,
    lead_id TEXT NOT NULL,
    from_agent_id TEXT NOT NULL,
    from_role TEXT NOT NULL,
    content TEXT NOT NULL,
    reactions TEXT DEFAULT '{}'             -- emoji to the ids of those who gave it
        CONSTRAINT reactions_json CHECK (json_valid(reactions) AND json_type(reactions) = 'object'),
    timestamp TEXT DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
        CONSTRAINT timestamp_time CHECK (timestamp IS strftime('%Y-%m-%dT%H:%M:%fZ', timestamp)),
    seq INTEGER NOT NULL UNIQUE,            -- order of posting over all rooms; the cursor
    verified INTEGER NOT NULL DEFAULT 0     -- whether a token stood behind the author
        CONSTRAINT verified_flag CHECK (verified IN (0, 1)),
    reply_to TEXT,
    mentions TEXT NOT NULL DEFAULT '[]'
        CONSTRAINT mentions_json CHECK (json_valid(mentions) AND json_type(mentions) = 'array'),
    search_words TEXT NOT NULL DEFAULT '',
    FOREIGN KEY (group_name, lead_id) REFERENCES chat_groups (name, lead_id) ON DELETE CASCADE
) STRICT;
CREATE INDEX idx_group_messages_group ON chat_group_messages (group_name, lead_id);
CREATE INDEX _idx_group_messages_seq ON chat_group_messages (group_name, lead_id, seq);

-- Full text of the rooms.
CREATE VIRTUAL TABLE _fts_group_messages USING fts5 (
    content, search_words,
    content = 'chat_group_messages', content_rowid = 'seq', tokenize = 'porter unicode61 remove_diacritics 2'
);
CREATE TRIGGER _fts_group_messages_insert AFTER INSERT ON chat_group_messages BEGIN
    INSERT INTO _fts_group_messages (rowid, content, search_words) VALUES (new.seq, new.content, new.search_words);
END;
CREATE TRIGGER _fts_group_messages_delete AFTER DELETE ON chat_group_messages BEGIN
    INSERT INTO _fts_group_messages (_fts_group_messages, rowid, content, search_words)
    VALUES ('delete', old.seq, old.content, old.search_words);
END;
CREATE TRIGGER _fts_group_messages_update AFTER UPDATE OF seq, content, search_words ON chat_group_messages BEGIN
    INSERT INTO _fts_group_messages (_fts_group_messages, rowid, content, search_words)
    VALUES ('delete', old.seq, old.content, old.search_words);
    INSERT INTO _fts_group_messages (rowid, content, search_words) VALUES (new.seq, new.content, new.search_words);
END;


-- === decisions ===
-- What was decided or asked, and what people said to it.

-- What was decided or asked, by whom, and how it was resolved. The text never changes after recording; its digest
-- is what an approval names. What needs confirmation is never approved by a machine. Scope: crew.
CREATE TABLE decisions (
    id TEXT NOT NULL PRIMARY KEY,
    agent_id TEXT NOT NULL,
    agent_role TEXT NOT NULL,
    lead_id TEXT,
    project_id TEXT,
    title TEXT NOT NULL,
    rationale TEXT DEFAULT '',
    needs_confirmation INTEGER DEFAULT 0
        CONSTRAINT needs_confirmation_flag CHECK (needs_confirmation IN (0, 1)),
    status TEXT DEFAULT 'recorded'
        CONSTRAINT status_values CHECK (status IN ('recorded', 'confirmed', 'rejected', 'dismissed', 'withdrawn')),
    auto_approved INTEGER DEFAULT 0         -- by a policy that a person stored
        CONSTRAINT auto_approved_flag CHECK (auto_approved IN (0, 1)),
    confirmed_at TEXT                       -- time of whatever outcome, not only of confirmation
        CONSTRAINT confirmed_at_time CHECK (confirmed_at IS strftime('%Y-%m-%dT%H:%M:%fZ', confirmed_at)),
    created_at TEXT DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
        CONSTRAINT created_at_time CHECK (created_at IS strftime('%Y-%m-%dT%H:%M:%fZ', created_at)),
    seq INTEGER NOT NULL UNIQUE,            -- order of recording
    digest BLOB NOT NULL                    -- SHA-256 of canonical title, rationale, options and project
        CONSTRAINT digest_length CHECK (length(digest) = 32),
    options TEXT NOT NULL DEFAULT '[]'
        CONSTRAINT options_json CHECK (json_valid(options) AND json_type(options) = 'array'),
    category TEXT NOT NULL DEFAULT 'general'
        CONSTRAINT category_values
        CHECK (category IN ('style', 'architecture', 'tool_access', 'dependency', 'testing', 'general')),
    supersedes TEXT REFERENCES decisions (id) ON DELETE SET NULL,
    confirmed_by TEXT,                      -- who resolved it
    reason TEXT,                            -- why it was resolved so
    assurance TEXT                          -- how sure it is that a person resolved it
        CONSTRAINT assurance_values CHECK (assurance IN ('strong', 'client')),
    signature BLOB,                         -- of the outcome: the key's id in 10 bytes, then 64 of Ed25519
    effect TEXT                             -- what a confirmation does, in its transaction
        CONSTRAINT effect_json CHECK (json_valid(effect) AND json_type(effect) = 'object'),
    search_words TEXT NOT NULL DEFAULT '',
    CONSTRAINT strong_is_signed CHECK (assurance IS NOT 'strong' OR signature IS NOT NULL),
    CONSTRAINT human_gate CHECK (NOT (needs_confirmation = 1 AND auto_approved = 1)),
    CONSTRAINT confirmed_by_another_human
        CHECK (needs_confirmation = 0 OR status <> 'confirmed'
               OR coalesce(substr(confirmed_by, 1, 6) = 'human:' AND confirmed_by <> agent_id
                           AND assurance IS NOT NULL, 0)),
    CONSTRAINT resolved_by_somebody CHECK (status = 'recorded' OR auto_approved = 1 OR confirmed_by IS NOT NULL)
) STRICT;
CREATE INDEX idx_decisions_status ON decisions (status);
CREATE INDEX idx_decisions_needs_confirmation ON decisions (needs_confirmation);
CREATE INDEX idx_decisions_lead_id ON decisions (lead_id);
CREATE INDEX idx_decisions_project_id ON decisions (project_id);
CREATE INDEX _idx_decisions_supersedes ON decisions (supersedes) WHERE supersedes IS NOT NULL;

-- Full text of the decisions.
CREATE VIRTUAL TABLE _fts_decisions USING fts5 (
    title, rationale, search_words,
    content = 'decisions', content_rowid = 'seq', tokenize = 'porter unicode61 remove_diacritics 2'
);
CREATE TRIGGER _fts_decisions_insert AFTER INSERT ON decisions BEGIN
    INSERT INTO _fts_decisions (rowid, title, rationale, search_words)
    VALUES (new.seq, new.title, new.rationale, new.search_words);
END;
CREATE TRIGGER _fts_decisions_delete AFTER DELETE ON decisions BEGIN
    INSERT INTO _fts_decisions (_fts_decisions, rowid, title, rationale, search_words)
    VALUES ('delete', old.seq, old.title, old.rationale, old.search_words);
END;
CREATE TRIGGER _fts_decisions_update AFTER UPDATE OF seq, title, rationale, search_words ON decisions BEGIN
    INSERT INTO _fts_decisions (_fts_decisions, rowid, title, rationale, search_words)
    VALUES ('delete', old.seq, old.title, old.rationale, old.search_words);
    INSERT INTO _fts_decisions (rowid, title, rationale, search_words)
    VALUES (new.seq, new.title, new.rationale, new.search_words);
END;


-- === memory ===
-- What one agent keeps for itself, readable by its crew.

-- Small keyed notes of one agent within one crew. Scope: crew.
CREATE TABLE agent_memory (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    lead_id TEXT NOT NULL,
    agent_id TEXT NOT NULL,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    created_at TEXT DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
        CONSTRAINT created_at_time CHECK (created_at IS strftime('%Y-%m-%dT%H:%M:%fZ', created_at)),
    updated_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
        CONSTRAINT updated_at_time CHECK (updated_at IS strftime('%Y-%m-%dT%H:%M:%fZ', updated_at))
) STRICT;
CREATE INDEX idx_agent_memory_lead ON agent_memory (lead_id);
CREATE INDEX idx_agent_memory_agent ON agent_memory (agent_id);
CREATE UNIQUE INDEX idx_agent_memory_unique ON agent_memory (lead_id, agent_id, key);

-- The present plan of an agent, one document each. Scope: crew.
CREATE TABLE agent_plans (
    agent_id TEXT NOT NULL PRIMARY KEY,
    lead_id TEXT,
    plan_json TEXT NOT NULL DEFAULT '[]'    -- entries of content, priority, status and perhaps a task
        CONSTRAINT plan_json_json CHECK (json_valid(plan_json) AND json_type(plan_json) = 'array'),
    updated_at TEXT DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
        CONSTRAINT updated_at_time CHECK (updated_at IS strftime('%Y-%m-%dT%H:%M:%fZ', updated_at)),
    version INTEGER NOT NULL DEFAULT 1
) STRICT;
CREATE INDEX _idx_agent_plans_lead ON agent_plans (lead_id);

-- Plans that were replaced. Scope: crew.
CREATE TABLE _agent_plan_versions (
    agent_id TEXT NOT NULL,
    version INTEGER NOT NULL,
    lead_id TEXT,
    plan_json TEXT NOT NULL
        CONSTRAINT plan_json_json CHECK (json_valid(plan_json) AND json_type(plan_json) = 'array'),
    updated_at TEXT NOT NULL
        CONSTRAINT updated_at_time CHECK (updated_at IS strftime('%Y-%m-%dT%H:%M:%fZ', updated_at)),
    PRIMARY KEY (agent_id, version)
) STRICT;


-- === knowledge ===
-- What a project has learned, and what its sessions looked like.

-- Lessons shared by all crews of a project, or by all projects. Scope: project, '' = all.
CREATE TABLE collective_memory (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    category TEXT NOT NULL
        CONSTRAINT category_values CHECK (category IN ('pattern', 'decision', 'expertise', 'gotcha')),
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    source TEXT NOT NULL,                   -- the author's agent id
    project_id TEXT DEFAULT ''              -- NULL would defeat the unique index
        CONSTRAINT project_id_present CHECK (project_id IS NOT NULL),
    created_at TEXT DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
        CONSTRAINT created_at_time CHECK (created_at IS strftime('%Y-%m-%dT%H:%M:%fZ', created_at)),
    last_used_at TEXT DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
        CONSTRAINT last_used_at_time CHECK (last_used_at IS strftime('%Y-%m-%dT%H:%M:%fZ', last_used_at)),
    use_count INTEGER DEFAULT 0,            -- times that it was returned because it matched
    version INTEGER NOT NULL DEFAULT 1,
    standing TEXT NOT NULL DEFAULT 'unmarked'
        CONSTRAINT standing_values CHECK (standing IN ('unmarked', 'confirmed', 'outdated', 'wrong')),
    marked_by TEXT,
    updated_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
        CONSTRAINT updated_at_time CHECK (updated_at IS strftime('%Y-%m-%dT%H:%M:%fZ', updated_at)),
    search_words TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX idx_collective_memory_category ON collective_memory (category);
CREATE INDEX idx_collective_memory_key ON collective_memory (key);
CREATE INDEX idx_collective_memory_project ON collective_memory (project_id);
CREATE UNIQUE INDEX idx_collective_memory_cat_key ON collective_memory (category, key, project_id);

-- Lessons that were overwritten or forgotten. Scope: project, '' = all.
CREATE TABLE _collective_memory_versions (
    project_id TEXT NOT NULL,
    category TEXT NOT NULL,
    key TEXT NOT NULL,
    version INTEGER NOT NULL,
    value TEXT NOT NULL,
    source TEXT NOT NULL,
    replaced_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
        CONSTRAINT replaced_at_time CHECK (replaced_at IS strftime('%Y-%m-%dT%H:%M:%fZ', replaced_at)),
    PRIMARY KEY (project_id, category, key, version)
) STRICT;

-- Full text of the lessons.
CREATE VIRTUAL TABLE _fts_collective_memory USING fts5 (
    key, value, search_words,
    content = 'collective_memory', content_rowid = 'id', tokenize = 'porter unicode61 remove_diacritics 2'
);
CREATE TRIGGER _fts_collective_memory_insert AFTER INSERT ON collective_memory BEGIN
    INSERT INTO _fts_collective_memory (rowid, key, value, search_words)
    VALUES (new.id, new.key, new.value, new.search_words);
END;
CREATE TRIGGER _fts_collective_memory_delete AFTER DELETE ON collective_memory BEGIN
    INSERT INTO _fts_collective_memory (_fts_collective_memory, rowid, key, value, search_words)
    VALUES ('delete', old.id, old.key, old.value, old.search_words);
END;
CREATE TRIGGER _fts_collective_memory_update AFTER UPDATE OF key, value, search_words ON collective_memory BEGIN
    INSERT INTO _fts_collective_memory (_fts_collective_memory, rowid, key, value, search_words)
    VALUES ('delete', old.id, old.key, old.value, old.search_words);
    INSERT INTO _fts_collective_memory (rowid, key, value, search_words)
    VALUES (new.id, new.key, new.value, new.search_words);
END;

-- A project's notes in four categories, searchable. Scope: project.
CREATE TABLE knowledge (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    project_id TEXT NOT NULL,
    category TEXT NOT NULL                  -- `core` is written by people and never evicted
        CONSTRAINT category_values CHECK (category IN ('core', 'episodic', 'procedural', 'semantic')),
    key TEXT NOT NULL,
    content TEXT NOT NULL,
    metadata TEXT                           -- source, confidence, tags, verification; merged key by key
        CONSTRAINT metadata_json CHECK (json_valid(metadata) AND json_type(metadata) = 'object'),
    created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
        CONSTRAINT created_at_time CHECK (created_at IS strftime('%Y-%m-%dT%H:%M:%fZ', created_at)),
    updated_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
        CONSTRAINT updated_at_time CHECK (updated_at IS strftime('%Y-%m-%dT%H:%M:%fZ', updated_at)),
    author TEXT NOT NULL DEFAULT '',
    version INTEGER NOT NULL DEFAULT 1,
    use_count INTEGER NOT NULL DEFAULT 0,
    last_used_at TEXT
        CONSTRAINT last_used_at_time CHECK (last_used_at IS strftime('%Y-%m-%dT%H:%M:%fZ', last_used_at)),
    search_words TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE UNIQUE INDEX idx_knowledge_project_cat_key ON knowledge (project_id, category, key);
CREATE INDEX idx_knowledge_project_category ON knowledge (project_id, category);

-- Notes that were overwritten, deleted or evicted. Scope: project.
CREATE TABLE _knowledge_versions (
    project_id TEXT NOT NULL,
    category TEXT NOT NULL,
    key TEXT NOT NULL,
    version INTEGER NOT NULL,
    content TEXT NOT NULL,
    metadata TEXT
        CONSTRAINT metadata_json CHECK (json_valid(metadata) AND json_type(metadata) = 'object'),
    author TEXT NOT NULL,
    replaced_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
        CONSTRAINT replaced_at_time CHECK (replaced_at IS strftime('%Y-%m-%dT%H:%M:%fZ', replaced_at)),
    PRIMARY KEY (project_id, category, key, version)
) STRICT;

-- Full text of the notes.
CREATE VIRTUAL TABLE _fts_knowledge USING fts5 (
    key, content, search_words,
    content = 'knowledge', content_rowid = 'id', tokenize = 'porter unicode61 remove_diacritics 2'
);
CREATE TRIGGER _fts_knowledge_insert AFTER INSERT ON knowledge BEGIN
    INSERT INTO _fts_knowledge (rowid, key, content, search_words)
    VALUES (new.id, new.key, new.content, new.search_words);
END;
CREATE TRIGGER _fts_knowledge_delete AFTER DELETE ON knowledge BEGIN
    INSERT INTO _fts_knowledge (_fts_knowledge, rowid, key, content, search_words)
    VALUES ('delete', old.id, old.key, old.content, old.search_words);
END;
CREATE TRIGGER _fts_knowledge_update AFTER UPDATE OF key, content, search_words ON knowledge BEGIN
    INSERT INTO _fts_knowledge (_fts_knowledge, rowid, key, content, search_words)
    VALUES ('delete', old.id, old.key, old.content, old.search_words);
    INSERT INTO _fts_knowledge (rowid, key, content, search_words)
    VALUES (new.id, new.key, new.content, new.search_words);
END;

-- What a finished session looked like in figures and words. Scope: crew.
CREATE TABLE session_retros (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    lead_id TEXT NOT NULL,
    data TEXT NOT NULL
        CONSTRAINT data_json CHECK (json_valid(data) AND json_type(data) = 'object'),
    created_at TEXT DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
        CONSTRAINT created_at_time CHECK (created_at IS strftime('%Y-%m-%dT%H:%M:%fZ', created_at)),
    session_row_id INTEGER,                 -- the `project_sessions` row that it looks back on
    author TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX idx_session_retros_lead ON session_retros (lead_id);


-- === timers ===
-- Reminders.

-- Reminders that fire into the message queue, at least once and never early. Scope: crew.
CREATE TABLE timers (
    id TEXT NOT NULL PRIMARY KEY,
    agent_id TEXT NOT NULL,                 -- the owner
    agent_role TEXT NOT NULL,
    lead_id TEXT,
    label TEXT NOT NULL,
    message TEXT NOT NULL,
    delay_seconds INTEGER NOT NULL,
    fire_at TEXT NOT NULL
        CONSTRAINT fire_at_time CHECK (fire_at IS strftime('%Y-%m-%dT%H:%M:%fZ', fire_at)),
    created_at TEXT DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
        CONSTRAINT created_at_time CHECK (created_at IS strftime('%Y-%m-%dT%H:%M:%fZ', created_at)),
    status TEXT NOT NULL DEFAULT 'pending'
        CONSTRAINT status_values CHECK (status IN ('pending', 'fired', 'cancelled')),
    repeat INTEGER DEFAULT 0                -- the period is `delay_seconds`
        CONSTRAINT repeat_flag CHECK (repeat IN (0, 1)),
    fire_boot_ms INTEGER NOT NULL,          -- next time; a repeat adds whole periods, so that it does not drift
    target_agent_id TEXT,                   -- whose inbox; NULL = the owner's
    project_id TEXT,
    fired_count INTEGER NOT NULL DEFAULT 0,
    ended_at TEXT
        CONSTRAINT ended_at_time CHECK (ended_at IS strftime('%Y-%m-%dT%H:%M:%fZ', ended_at)),
    verified INTEGER NOT NULL DEFAULT 0     -- whether a token stood behind the owner when it was set
        CONSTRAINT verified_flag CHECK (verified IN (0, 1)),
    claimed_by TEXT                         -- process that fired it last
) STRICT;
CREATE INDEX idx_timers_agent ON timers (agent_id);
CREATE INDEX idx_timers_status ON timers (status);
-- `status` leads, so that the planner prefers it to the index on status alone.
CREATE INDEX _idx_timers_due ON timers (status, fire_boot_ms) WHERE status = 'pending';
-- A page of a crew's timers is one range, in the order in which they are listed.
CREATE INDEX _idx_timers_page ON timers (lead_id, status <> 'pending', fire_boot_ms, id);


-- === costs ===
-- Tokens and money.

-- Tokens and money used by one agent on one task, summed. Scope: crew.
CREATE TABLE task_cost_records (
    agent_id TEXT NOT NULL,
    dag_task_id TEXT NOT NULL,              -- `_unattributed` where no task is known
    lead_id TEXT NOT NULL,
    project_id TEXT,
    input_tokens INTEGER DEFAULT 0
        CONSTRAINT input_tokens_range CHECK (input_tokens >= 0),
    output_tokens INTEGER DEFAULT 0
        CONSTRAINT output_tokens_range CHECK (output_tokens >= 0),
    cache_read_tokens INTEGER DEFAULT 0
        CONSTRAINT cache_read_tokens_range CHECK (cache_read_tokens >= 0),
    cache_write_tokens INTEGER DEFAULT 0
        CONSTRAINT cache_write_tokens_range CHECK (cache_write_tokens >= 0),
    cost_usd REAL DEFAULT 0                 -- for reading; the sum is kept in `cost_micro_usd`
        CONSTRAINT cost_usd_range CHECK (cost_usd >= 0),
    created_at TEXT DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
        CONSTRAINT created_at_time CHECK (created_at IS strftime('%Y-%m-%dT%H:%M:%fZ', created_at)),
    updated_at TEXT DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
        CONSTRAINT updated_at_time CHECK (updated_at IS strftime('%Y-%m-%dT%H:%M:%fZ', updated_at)),
    cost_micro_usd INTEGER                  -- millionths of a dollar; NULL = no call told its cost
        CONSTRAINT cost_micro_usd_range CHECK (cost_micro_usd >= 0),
    PRIMARY KEY (agent_id, dag_task_id, lead_id)
) STRICT;
CREATE INDEX idx_task_cost_agent ON task_cost_records (agent_id);
CREATE INDEX idx_task_cost_task ON task_cost_records (dag_task_id, lead_id);
CREATE INDEX idx_task_cost_project ON task_cost_records (project_id);
CREATE INDEX _idx_task_cost_lead ON task_cost_records (lead_id);

-- Each report of cost, as what it added: sums by day and by model come from here, and a call counts once.
-- Scope: crew.
CREATE TABLE _cost_calls (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    agent_id TEXT NOT NULL,
    dag_task_id TEXT NOT NULL,
    lead_id TEXT NOT NULL,
    project_id TEXT,
    model TEXT NOT NULL,
    session_id TEXT,
    call_id TEXT,
    input_tokens INTEGER NOT NULL
        CONSTRAINT input_tokens_range CHECK (input_tokens >= 0),
    output_tokens INTEGER NOT NULL
        CONSTRAINT output_tokens_range CHECK (output_tokens >= 0),
    cache_read_tokens INTEGER NOT NULL
        CONSTRAINT cache_read_tokens_range CHECK (cache_read_tokens >= 0),
    cache_write_tokens INTEGER NOT NULL
        CONSTRAINT cache_write_tokens_range CHECK (cache_write_tokens >= 0),
    cost_micro_usd INTEGER
        CONSTRAINT cost_micro_usd_range CHECK (cost_micro_usd >= 0),
    recorded_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
        CONSTRAINT recorded_at_time CHECK (recorded_at IS strftime('%Y-%m-%dT%H:%M:%fZ', recorded_at))
) STRICT;
CREATE UNIQUE INDEX _idx_cost_calls_call ON _cost_calls (agent_id, call_id) WHERE call_id IS NOT NULL;
CREATE INDEX _idx_cost_calls_lead ON _cost_calls (lead_id, recorded_at);

-- The last cumulative counters that an agent told, from which the next report is subtracted. Scope: crew.
CREATE TABLE _cost_baselines (
    agent_id TEXT NOT NULL,
    session_id TEXT NOT NULL,
    dag_task_id TEXT NOT NULL,
    input_tokens INTEGER NOT NULL DEFAULT 0,
    output_tokens INTEGER NOT NULL DEFAULT 0,
    cache_read_tokens INTEGER NOT NULL DEFAULT 0,
    cache_write_tokens INTEGER NOT NULL DEFAULT 0,
    cost_micro_usd INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (agent_id, session_id, dag_task_id)
) STRICT, WITHOUT ROWID;

-- Limits on cost: of a crew, or of one task or project within it ('' = all). Scope: crew.
CREATE TABLE _cost_budgets (
    lead_id TEXT NOT NULL,
    dag_task_id TEXT NOT NULL DEFAULT '',
    project_id TEXT NOT NULL DEFAULT '',
    limit_micro_usd INTEGER,
    limit_tokens INTEGER,
    on_exceed TEXT NOT NULL DEFAULT 'warn'
        CONSTRAINT on_exceed_values CHECK (on_exceed IN ('warn', 'block')),
    warned_percent INTEGER NOT NULL DEFAULT 0, -- the highest mark that was announced
    used_micro_usd INTEGER NOT NULL DEFAULT 0 -- what `task_cost_records` sums to, kept with each report
        CONSTRAINT used_micro_usd_range CHECK (used_micro_usd >= 0),
    used_tokens INTEGER NOT NULL DEFAULT 0
        CONSTRAINT used_tokens_range CHECK (used_tokens >= 0),
    set_by TEXT NOT NULL,
    set_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
        CONSTRAINT set_at_time CHECK (set_at IS strftime('%Y-%m-%dT%H:%M:%fZ', set_at)),
    PRIMARY KEY (lead_id, dag_task_id, project_id),
    CONSTRAINT limit_present CHECK (limit_micro_usd IS NOT NULL OR limit_tokens IS NOT NULL)
) STRICT, WITHOUT ROWID;


-- === tasks ===
-- The dependency graph of a crew's work.
-- `unmet` counts the unsatisfied dependencies of a task and is kept by triggers, so that the next ready task is
-- found at the same cost among ten or a hundred thousand. A dependency is satisfied when it is done or skipped;
-- an archived one counts for nothing. The triggers count; only the tasks' own operations write `dag_status`.

-- One task of a crew's dependency graph. `pending`, `ready` and `blocked` follow from its dependencies; the other
-- states are entered by an operation. Scope: crew.
CREATE TABLE dag_tasks (
    id TEXT NOT NULL,
    lead_id TEXT NOT NULL,
    project_id TEXT,
    team_id TEXT NOT NULL DEFAULT 'default',
    role TEXT NOT NULL,
    title TEXT,
    description TEXT NOT NULL DEFAULT '',
    files TEXT DEFAULT '[]'
        CONSTRAINT files_json CHECK (json_valid(files) AND json_type(files) = 'array'),
    depends_on TEXT DEFAULT '[]'            -- a rendering of `_task_edges` and `_task_decisions`
        CONSTRAINT depends_on_json CHECK (json_valid(depends_on) AND json_type(depends_on) = 'array'),
    dag_status TEXT DEFAULT 'pending'
        CONSTRAINT dag_status_values CHECK (dag_status IN ('pending', 'ready', 'running', 'in_review', 'done',
            'failed', 'blocked', 'paused', 'skipped', 'cancelled')),
    priority INTEGER DEFAULT 0,             -- larger first
    model TEXT,
    assigned_agent_id TEXT,
    failure_reason TEXT,
    created_at TEXT DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
        CONSTRAINT created_at_time CHECK (created_at IS strftime('%Y-%m-%dT%H:%M:%fZ', created_at)),
    started_at TEXT
        CONSTRAINT started_at_time CHECK (started_at IS strftime('%Y-%m-%dT%H:%M:%fZ', started_at)),
    completed_at TEXT
        CONSTRAINT completed_at_time CHECK (completed_at IS strftime('%Y-%m-%dT%H:%M:%fZ', completed_at)),
    archived_at TEXT                        -- not NULL = archived; `dag_status` stays
        CONSTRAINT archived_at_time CHECK (archived_at IS strftime('%Y-%m-%dT%H:%M:%fZ', archived_at)),
    overridden_by TEXT,                     -- who forced the task past its dependencies
    seq INTEGER NOT NULL UNIQUE,            -- age: order of adding
    unmet INTEGER NOT NULL DEFAULT 0        -- unsatisfied dependencies
        CONSTRAINT unmet_range CHECK (unmet >= 0),
    dependents INTEGER NOT NULL DEFAULT 0   -- tasks that name this one as a dependency
        CONSTRAINT dependents_range CHECK (dependents >= 0),
    version INTEGER NOT NULL DEFAULT 1,     -- of the text and the files
    claim_epoch INTEGER NOT NULL DEFAULT 0, -- fence of the newest claim; 0 = never claimed
    lease_ttl_ms INTEGER,                   -- the claim's lease; NULL = not claimed
    lease_boot_ms INTEGER,                  -- its end
    lease_expires_at TEXT
        CONSTRAINT lease_expires_at_time
        CHECK (lease_expires_at IS strftime('%Y-%m-%dT%H:%M:%fZ', lease_expires_at)),
    renew_until_boot_ms INTEGER,            -- end of automatic renewal
    attempts INTEGER NOT NULL DEFAULT 0,    -- claims that ended without their holder's word
    paused_from TEXT                        -- where resuming leads back to
        CONSTRAINT paused_from_values
        CHECK (paused_from IN ('pending', 'ready', 'running', 'in_review', 'blocked')),
    reviewer_id TEXT,
    result_digest BLOB                      -- of the accepted result: a repeated completion replays
        CONSTRAINT result_digest_length CHECK (length(result_digest) = 32),
    search_words TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (id, lead_id)
) STRICT;
CREATE INDEX idx_dag_tasks_lead ON dag_tasks (lead_id);
CREATE INDEX idx_dag_tasks_status ON dag_tasks (dag_status);
CREATE INDEX idx_dag_tasks_project ON dag_tasks (project_id);
CREATE INDEX idx_dag_tasks_team ON dag_tasks (team_id);
CREATE INDEX idx_dag_tasks_id_team ON dag_tasks (id, team_id);
-- The next task to claim is the first entry of its crew and role here; a query must repeat the WHERE terms to use it.
CREATE INDEX _idx_dag_tasks_ready ON dag_tasks (lead_id, role, priority DESC, dependents DESC, seq)
    WHERE dag_status = 'ready' AND archived_at IS NULL;
-- A page of tasks is one range of this index for each status.
CREATE INDEX _idx_dag_tasks_page ON dag_tasks (lead_id, dag_status, priority DESC, seq) WHERE archived_at IS NULL;
-- Whose files are being worked on: as many as agents have claims.
CREATE INDEX _idx_dag_tasks_working ON dag_tasks (project_id)
    WHERE dag_status IN ('running', 'in_review', 'paused') AND assigned_agent_id IS NOT NULL AND archived_at IS NULL;
CREATE INDEX _idx_dag_tasks_assignee ON dag_tasks (assigned_agent_id, dag_status)
    WHERE assigned_agent_id IS NOT NULL;
CREATE INDEX _idx_dag_tasks_lease ON dag_tasks (lease_boot_ms) WHERE lease_boot_ms IS NOT NULL;

-- Which task waits for which; acyclic after every commit. Scope: crew.
CREATE TABLE _task_edges (
    lead_id TEXT NOT NULL,
    task_id TEXT NOT NULL,
    dep_id TEXT NOT NULL,                   -- what it waits for
    PRIMARY KEY (lead_id, task_id, dep_id),
    FOREIGN KEY (task_id, lead_id) REFERENCES dag_tasks (id, lead_id),
    FOREIGN KEY (dep_id, lead_id) REFERENCES dag_tasks (id, lead_id),
    CONSTRAINT no_self_edge CHECK (dep_id <> task_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX _idx_task_edges_dependents ON _task_edges (lead_id, dep_id, task_id);

CREATE TRIGGER _task_edges_insert AFTER INSERT ON _task_edges BEGIN
    UPDATE dag_tasks SET dependents = dependents + 1 WHERE lead_id = new.lead_id AND id = new.dep_id;
    UPDATE dag_tasks SET unmet = unmet + 1
     WHERE lead_id = new.lead_id AND id = new.task_id
       AND EXISTS (SELECT 1 FROM dag_tasks AS dep
                    WHERE dep.lead_id = new.lead_id AND dep.id = new.dep_id
                      AND dep.dag_status NOT IN ('done', 'skipped') AND dep.archived_at IS NULL);
END;
CREATE TRIGGER _task_edges_delete AFTER DELETE ON _task_edges BEGIN
    UPDATE dag_tasks SET dependents = dependents - 1 WHERE lead_id = old.lead_id AND id = old.dep_id;
    UPDATE dag_tasks SET unmet = unmet - 1
     WHERE lead_id = old.lead_id AND id = old.task_id
       AND EXISTS (SELECT 1 FROM dag_tasks AS dep
                    WHERE dep.lead_id = old.lead_id AND dep.id = old.dep_id
                      AND dep.dag_status NOT IN ('done', 'skipped') AND dep.archived_at IS NULL);
END;
CREATE TRIGGER _dag_tasks_satisfied AFTER UPDATE OF dag_status, archived_at ON dag_tasks
WHEN (new.dag_status IN ('done', 'skipped') OR new.archived_at IS NOT NULL)
     <> (old.dag_status IN ('done', 'skipped') OR old.archived_at IS NOT NULL)
BEGIN
    UPDATE dag_tasks
       SET unmet = unmet + iif(new.dag_status IN ('done', 'skipped') OR new.archived_at IS NOT NULL, -1, 1)
     WHERE lead_id = new.lead_id
       AND id IN (SELECT task_id FROM _task_edges WHERE lead_id = new.lead_id AND dep_id = new.id);
END;

-- Which task waits for which decision: satisfied when confirmed, or recorded where no confirmation is needed.
-- Scope: crew.
CREATE TABLE _task_decisions (
    lead_id TEXT NOT NULL,
    task_id TEXT NOT NULL,
    decision_id TEXT NOT NULL REFERENCES decisions (id),
    PRIMARY KEY (lead_id, task_id, decision_id),
    FOREIGN KEY (task_id, lead_id) REFERENCES dag_tasks (id, lead_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX _idx_task_decisions_decision ON _task_decisions (decision_id);

CREATE TRIGGER _task_decisions_insert AFTER INSERT ON _task_decisions BEGIN
    UPDATE dag_tasks SET unmet = unmet + 1
     WHERE lead_id = new.lead_id AND id = new.task_id
       AND NOT EXISTS (SELECT 1 FROM decisions
                        WHERE id = new.decision_id
                          AND (status = 'confirmed' OR (status = 'recorded' AND needs_confirmation = 0)));
END;
CREATE TRIGGER _task_decisions_delete AFTER DELETE ON _task_decisions BEGIN
    UPDATE dag_tasks SET unmet = unmet - 1
     WHERE lead_id = old.lead_id AND id = old.task_id
       AND NOT EXISTS (SELECT 1 FROM decisions
                        WHERE id = old.decision_id
                          AND (status = 'confirmed' OR (status = 'recorded' AND needs_confirmation = 0)));
END;
CREATE TRIGGER _decisions_satisfied AFTER UPDATE OF status, needs_confirmation ON decisions
WHEN (new.status = 'confirmed' OR (new.status = 'recorded' AND new.needs_confirmation = 0))
     <> (old.status = 'confirmed' OR (old.status = 'recorded' AND old.needs_confirmation = 0))
BEGIN
    UPDATE dag_tasks
       SET unmet = unmet + iif(new.status = 'confirmed' OR (new.status = 'recorded' AND new.needs_confirmation = 0),
                               -1, 1)
     WHERE (lead_id, id) IN (SELECT lead_id, task_id FROM _task_decisions WHERE decision_id = new.id);
END;

-- A deleted task takes its edges along first; a cascade would come too late for the counters.
CREATE TRIGGER _dag_tasks_delete BEFORE DELETE ON dag_tasks BEGIN
    DELETE FROM _task_edges WHERE lead_id = old.lead_id AND task_id = old.id;
    DELETE FROM _task_edges WHERE lead_id = old.lead_id AND dep_id = old.id;
    DELETE FROM _task_decisions WHERE lead_id = old.lead_id AND task_id = old.id;
END;

-- Every change of status, with who and why: ages, durations and replay come from here. Scope: crew.
CREATE TABLE _task_transitions (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    lead_id TEXT NOT NULL,
    task_id TEXT NOT NULL,
    action TEXT NOT NULL,                   -- the operation, or `derive`
    from_status TEXT,                       -- NULL = the task is new
    to_status TEXT NOT NULL,
    actor TEXT,                             -- NULL = the server itself
    assigned_agent_id TEXT,                 -- the holder afterwards
    claim_epoch INTEGER NOT NULL DEFAULT 0,
    cause_task_id TEXT,                     -- the task whose change led to this one
    reason TEXT,
    created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
        CONSTRAINT created_at_time CHECK (created_at IS strftime('%Y-%m-%dT%H:%M:%fZ', created_at)),
    FOREIGN KEY (task_id, lead_id) REFERENCES dag_tasks (id, lead_id) ON DELETE CASCADE
) STRICT;
CREATE INDEX _idx_task_transitions_task ON _task_transitions (lead_id, task_id, id);

-- What holders handed in: for review, as completion, or too late to count. Scope: crew.
CREATE TABLE _task_results (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    lead_id TEXT NOT NULL,
    task_id TEXT NOT NULL,
    claim_epoch INTEGER NOT NULL,
    agent_id TEXT NOT NULL,
    kind TEXT NOT NULL
        CONSTRAINT kind_values CHECK (kind IN ('submission', 'completion', 'late')),
    summary TEXT NOT NULL DEFAULT '',
    output TEXT NOT NULL DEFAULT '',
    created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
        CONSTRAINT created_at_time CHECK (created_at IS strftime('%Y-%m-%dT%H:%M:%fZ', created_at)),
    FOREIGN KEY (task_id, lead_id) REFERENCES dag_tasks (id, lead_id) ON DELETE CASCADE
) STRICT;
CREATE INDEX _idx_task_results_task ON _task_results (lead_id, task_id, id);

-- Full text of the tasks.
CREATE VIRTUAL TABLE _fts_tasks USING fts5 (
    title, description, search_words,
    content = 'dag_tasks', content_rowid = 'seq', tokenize = 'porter unicode61 remove_diacritics 2'
);
CREATE TRIGGER _fts_tasks_insert AFTER INSERT ON dag_tasks BEGIN
    INSERT INTO _fts_tasks (rowid, title, description, search_words)
    VALUES (new.seq, new.title, new.description, new.search_words);
END;
CREATE TRIGGER _fts_tasks_delete AFTER DELETE ON dag_tasks BEGIN
    INSERT INTO _fts_tasks (_fts_tasks, rowid, title, description, search_words)
    VALUES ('delete', old.seq, old.title, old.description, old.search_words);
END;
CREATE TRIGGER _fts_tasks_update AFTER UPDATE OF seq, title, description, search_words ON dag_tasks BEGIN
    INSERT INTO _fts_tasks (_fts_tasks, rowid, title, description, search_words)
    VALUES ('delete', old.seq, old.title, old.description, old.search_words);
    INSERT INTO _fts_tasks (rowid, title, description, search_words)
    VALUES (new.seq, new.title, new.description, new.search_words);
END;


-- === delegations ===
-- Work handed over.

-- Work handed by one agent to another, with its outcome. Scope: crew.
CREATE TABLE active_delegations (
    delegation_id TEXT NOT NULL PRIMARY KEY,
    agent_id TEXT NOT NULL REFERENCES agent_roster (agent_id), -- who does it
    task TEXT NOT NULL,
    context TEXT,
    dag_task_id TEXT,
    team_id TEXT NOT NULL DEFAULT 'default',
    status TEXT NOT NULL DEFAULT 'active'
        CONSTRAINT status_values CHECK (status IN ('active', 'completed', 'failed', 'cancelled')),
    created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
        CONSTRAINT created_at_time CHECK (created_at IS strftime('%Y-%m-%dT%H:%M:%fZ', created_at)),
    completed_at TEXT                       -- time of whatever outcome
        CONSTRAINT completed_at_time CHECK (completed_at IS strftime('%Y-%m-%dT%H:%M:%fZ', completed_at)),
    result TEXT
        CONSTRAINT result_json CHECK (json_valid(result)),
    delegator_id TEXT NOT NULL,             -- who is told of the outcome
    lead_id TEXT NOT NULL,
    project_id TEXT,
    message_id INTEGER,                     -- the `message_queue` row that told it
    seq INTEGER NOT NULL UNIQUE             -- order of delegating
) STRICT;
CREATE INDEX idx_ad_agent ON active_delegations (agent_id, status);
CREATE INDEX idx_ad_status ON active_delegations (status);
CREATE INDEX idx_ad_dag_task ON active_delegations (dag_task_id);
CREATE INDEX idx_ad_team ON active_delegations (team_id);
CREATE INDEX _idx_ad_delegator ON active_delegations (delegator_id, status);
CREATE INDEX _idx_ad_lead ON active_delegations (lead_id, seq);


-- === projects ===
-- Repositories, and the runs of their leads.

-- A repository under coordination; it outlives its sessions. Scope: store.
CREATE TABLE projects (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    description TEXT DEFAULT '',
    cwd TEXT,                               -- canonical root of the main worktree
    status TEXT DEFAULT 'active'
        CONSTRAINT status_values CHECK (status IN ('active', 'archived', 'completed')),
    model_config TEXT DEFAULT '{}'          -- role id to the models that it may use
        CONSTRAINT model_config_json CHECK (json_valid(model_config) AND json_type(model_config) = 'object'),
    oversight_level TEXT                    -- NULL = the store's setting
        CONSTRAINT oversight_level_values CHECK (oversight_level IN ('supervised', 'balanced', 'autonomous')),
    created_at TEXT DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
        CONSTRAINT created_at_time CHECK (created_at IS strftime('%Y-%m-%dT%H:%M:%fZ', created_at)),
    updated_at TEXT DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
        CONSTRAINT updated_at_time CHECK (updated_at IS strftime('%Y-%m-%dT%H:%M:%fZ', updated_at)),
    version INTEGER NOT NULL DEFAULT 1
) STRICT;
CREATE INDEX idx_projects_status ON projects (status);
CREATE UNIQUE INDEX _idx_projects_cwd ON projects (cwd) WHERE status <> 'archived';

-- One run of a lead on a project. Scope: project.
CREATE TABLE project_sessions (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    project_id TEXT NOT NULL REFERENCES projects (id),
    lead_id TEXT NOT NULL,                  -- never changes
    session_id TEXT,                        -- session of the agent's own program, set after the start
    role TEXT DEFAULT 'lead',
    task TEXT,
    status TEXT DEFAULT 'active'
        CONSTRAINT status_values CHECK (status IN ('active', 'completed', 'crashed', 'resuming', 'stopped')),
    started_at TEXT DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
        CONSTRAINT started_at_time CHECK (started_at IS strftime('%Y-%m-%dT%H:%M:%fZ', started_at)),
    ended_at TEXT
        CONSTRAINT ended_at_time CHECK (ended_at IS strftime('%Y-%m-%dT%H:%M:%fZ', ended_at)),
    claimed_by TEXT,                        -- who resumes it
    claim_boot_ms INTEGER,                  -- until when; afterwards it is stopped again
    claim_epoch INTEGER NOT NULL DEFAULT 0, -- fence of the newest claim; 0 = never claimed
    resumed_at TEXT
        CONSTRAINT resumed_at_time CHECK (resumed_at IS strftime('%Y-%m-%dT%H:%M:%fZ', resumed_at))
) STRICT;
CREATE INDEX idx_project_sessions_project ON project_sessions (project_id);
CREATE INDEX idx_project_sessions_lead ON project_sessions (lead_id);
CREATE UNIQUE INDEX _idx_project_sessions_live ON project_sessions (project_id, lead_id)
    WHERE status IN ('active', 'resuming');

CREATE TRIGGER _project_sessions_keep_lead BEFORE UPDATE OF lead_id ON project_sessions
WHEN new.lead_id <> old.lead_id
BEGIN SELECT raise(ABORT, 'the lead of a session never changes'); END;


-- === store ===
-- What the store knows about itself.

-- Typed key/value configuration and the store's own markers (`store.…`), which no tool writes: `store.id`,
-- `store.boot_id` (the boot that deadlines belong to), `store.fence` (the last fence issued). Scope: store.
CREATE TABLE settings (
    key TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
        CONSTRAINT value_json CHECK (json_valid(value)),
    version INTEGER NOT NULL DEFAULT 1,
    updated_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
        CONSTRAINT updated_at_time CHECK (updated_at IS strftime('%Y-%m-%dT%H:%M:%fZ', updated_at)),
    updated_by TEXT                         -- NULL = the server itself
) STRICT;
INSERT INTO settings (key, value) VALUES ('store.fence', '0');

CREATE TRIGGER _settings_fence_rises BEFORE UPDATE OF value ON settings
WHEN new.key = 'store.fence' AND CAST(new.value AS INTEGER) < CAST(old.value AS INTEGER)
BEGIN SELECT raise(ABORT, 'a fence never falls'); END;

-- Results by request key: a call that is repeated gets the first one's answer and has no second effect.
-- Scope: the caller's own.
CREATE TABLE _request_keys (
    principal TEXT NOT NULL,
    tool TEXT NOT NULL,
    request_key TEXT NOT NULL,
    args_hash BLOB NOT NULL
        CONSTRAINT args_hash_length CHECK (length(args_hash) = 32),
    arguments TEXT NOT NULL                 -- argument names to hashes: tells which differ, keeps no values
        CONSTRAINT arguments_json CHECK (json_valid(arguments) AND json_type(arguments) = 'object'),
    result TEXT NOT NULL
        CONSTRAINT result_json CHECK (json_valid(result)),
    created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
        CONSTRAINT created_at_time CHECK (created_at IS strftime('%Y-%m-%dT%H:%M:%fZ', created_at)),
    created_boot_ms INTEGER NOT NULL,       -- a key is kept a day from then
    PRIMARY KEY (principal, tool, request_key)
) STRICT;
CREATE INDEX _idx_request_keys_created ON _request_keys (created_boot_ms);

-- The outbox: what changed, for those who wait in this and in other processes. Written in the transaction of the
-- effect, read by id, and soon deleted. Scope: store.
CREATE TABLE _events (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    source TEXT NOT NULL,                   -- `process_id` of the writer, which has told its own waiters already
    topic TEXT NOT NULL,
    kind TEXT NOT NULL,
    subject TEXT NOT NULL DEFAULT '',
    agent_id TEXT,
    project_id TEXT,
    lead_id TEXT,                           -- crew that a fact belongs to: ids of tasks and groups are its own
    created_boot_ms INTEGER NOT NULL
) STRICT;
