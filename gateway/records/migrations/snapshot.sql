CREATE TABLE access_sequence (
	id INTEGER NOT NULL, 
	value BIGINT NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "access_sequence" VALUES(1,0);
INSERT INTO "access_sequence" VALUES(2,0);
INSERT INTO "access_sequence" VALUES(3,0);
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0010');
CREATE TABLE audit_log (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	at BIGINT NOT NULL, 
	key_id TEXT NOT NULL, 
	key_name TEXT NOT NULL, 
	key_tenant TEXT NOT NULL, 
	address TEXT NOT NULL, 
	request_id TEXT NOT NULL, 
	action TEXT NOT NULL, 
	object TEXT NOT NULL, 
	tenant TEXT, 
	outcome TEXT NOT NULL, 
	reason TEXT NOT NULL, 
	"before" TEXT, 
	"after" TEXT
);
CREATE TABLE calls (
	call_id TEXT NOT NULL, 
	request_id TEXT NOT NULL, 
	answer_id TEXT, 
	tenant TEXT NOT NULL, 
	key_name TEXT NOT NULL, 
	user TEXT, 
	endpoint TEXT NOT NULL, 
	requested_model TEXT, 
	model TEXT, 
	target TEXT, 
	served_model TEXT, 
	started_at BIGINT NOT NULL, 
	status INTEGER NOT NULL, 
	outcome TEXT NOT NULL, 
	error_code TEXT, 
	prompt_tokens BIGINT, 
	completion_tokens BIGINT, 
	cached_tokens BIGINT, 
	reasoning_tokens BIGINT, 
	usage_estimated INTEGER, 
	cache TEXT NOT NULL, 
	finish_reason TEXT, 
	duration_us BIGINT NOT NULL, 
	first_chunk_us BIGINT, 
	trace_id TEXT NOT NULL, 
	revision TEXT NOT NULL, 
	detail BLOB NOT NULL, cost DOUBLE, sensitivity TEXT, key_id TEXT, content BLOB, 
	PRIMARY KEY (call_id)
)
 WITHOUT ROWID

;
CREATE TABLE erasures (
	id TEXT NOT NULL, 
	at BIGINT NOT NULL, 
	tenant TEXT NOT NULL, 
	digest BLOB NOT NULL, 
	receipt TEXT NOT NULL, 
	PRIMARY KEY (id)
);
CREATE TABLE feedback (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	at BIGINT NOT NULL, 
	call_id TEXT NOT NULL, 
	tenant TEXT NOT NULL, 
	user TEXT, 
	score FLOAT, 
	label TEXT, 
	comment TEXT, 
	correction TEXT
);
CREATE TABLE key_secrets (
	digest BLOB NOT NULL, 
	"key" TEXT NOT NULL, 
	prefix TEXT NOT NULL, 
	created_at FLOAT NOT NULL, 
	works_until FLOAT, 
	PRIMARY KEY (digest), 
	FOREIGN KEY("key") REFERENCES keys (id)
);
CREATE TABLE keys (
	id TEXT NOT NULL, 
	name TEXT NOT NULL, 
	tenant TEXT NOT NULL, 
	grants TEXT NOT NULL, 
	administers BOOLEAN NOT NULL, 
	created_at FLOAT NOT NULL, 
	created_by TEXT NOT NULL, 
	expires_at FLOAT, 
	rotated_at FLOAT, 
	revoked_at FLOAT, 
	revoked_by TEXT, 
	sequence BIGINT NOT NULL, 
	PRIMARY KEY (id)
);
CREATE TABLE lake_files (
	path TEXT NOT NULL, 
	dataset TEXT NOT NULL, 
	day TEXT NOT NULL, 
	tenant TEXT NOT NULL, 
	state TEXT NOT NULL, 
	rows BIGINT NOT NULL, 
	bytes BIGINT NOT NULL, 
	first BIGINT NOT NULL, 
	last BIGINT NOT NULL, 
	PRIMARY KEY (path)
);
CREATE TABLE lake_lease (
	id INTEGER NOT NULL, 
	lake TEXT NOT NULL, 
	url TEXT NOT NULL, 
	holder TEXT NOT NULL, 
	until DOUBLE NOT NULL, position BIGINT DEFAULT '0' NOT NULL, 
	PRIMARY KEY (id)
);
CREATE TABLE lake_queue (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	at BIGINT NOT NULL, 
	kind TEXT NOT NULL, 
	body BLOB NOT NULL
);
CREATE TABLE organisations (
	id TEXT NOT NULL, 
	name TEXT NOT NULL, 
	created_at FLOAT NOT NULL, 
	created_by TEXT NOT NULL, 
	PRIMARY KEY (id)
);
CREATE TABLE prompt_labels (
	tenant TEXT NOT NULL, 
	name TEXT NOT NULL, 
	label TEXT NOT NULL, 
	version INTEGER, 
	changed_at DOUBLE NOT NULL, 
	changed_by TEXT NOT NULL, 
	sequence BIGINT NOT NULL, 
	PRIMARY KEY (tenant, name, label)
);
CREATE TABLE prompt_moves (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	at BIGINT NOT NULL, 
	tenant TEXT NOT NULL, 
	name TEXT NOT NULL, 
	label TEXT NOT NULL, 
	action TEXT NOT NULL, 
	"before" INTEGER, 
	"after" INTEGER, 
	actor TEXT NOT NULL, 
	reason TEXT NOT NULL
);
CREATE TABLE prompt_results (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	at BIGINT NOT NULL, 
	tenant TEXT NOT NULL, 
	name TEXT NOT NULL, 
	version INTEGER NOT NULL, 
	content_hash TEXT NOT NULL, 
	suite TEXT NOT NULL, 
	passed INTEGER NOT NULL, 
	failed INTEGER NOT NULL, 
	detail TEXT NOT NULL, 
	actor TEXT NOT NULL
);
CREATE TABLE prompt_versions (
	tenant TEXT NOT NULL, 
	name TEXT NOT NULL, 
	version INTEGER NOT NULL, 
	source TEXT NOT NULL, 
	content_hash TEXT NOT NULL, 
	status TEXT NOT NULL, 
	created_at DOUBLE NOT NULL, 
	created_by TEXT NOT NULL, 
	notes TEXT NOT NULL, 
	released_at DOUBLE, 
	released_by TEXT, 
	sequence BIGINT NOT NULL, 
	PRIMARY KEY (tenant, name, version)
);
CREATE TABLE pseudonyms (
	conversation BLOB NOT NULL, 
	expires_at FLOAT NOT NULL, 
	sealed BLOB NOT NULL, owner BLOB, 
	PRIMARY KEY (conversation)
);
CREATE TABLE quality (
	call_id TEXT NOT NULL, 
	measure TEXT NOT NULL, 
	tenant TEXT NOT NULL, 
	score DOUBLE NOT NULL, 
	judged_by TEXT NOT NULL, 
	at BIGINT NOT NULL, 
	PRIMARY KEY (call_id, measure)
)
 WITHOUT ROWID

;
CREATE TABLE responses (
	id TEXT NOT NULL, 
	tenant TEXT NOT NULL, 
	user TEXT, 
	previous_id TEXT, 
	expires_at FLOAT NOT NULL, 
	input BLOB NOT NULL, 
	response BLOB NOT NULL, 
	PRIMARY KEY (id)
);
CREATE TABLE routing (
	model TEXT NOT NULL, 
	sequence BIGINT NOT NULL, 
	document BLOB NOT NULL, 
	PRIMARY KEY (model)
)
 WITHOUT ROWID

;
CREATE TABLE routing_events (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	at BIGINT NOT NULL, 
	model TEXT NOT NULL, 
	actor TEXT NOT NULL, 
	action TEXT NOT NULL, 
	reason TEXT NOT NULL, 
	"before" TEXT NOT NULL, 
	"after" TEXT NOT NULL
);
CREATE TABLE spend (
	subject TEXT NOT NULL, 
	period TEXT NOT NULL, 
	usd DOUBLE NOT NULL, 
	calls BIGINT NOT NULL, 
	tokens BIGINT NOT NULL, 
	PRIMARY KEY (subject, period)
);
CREATE TABLE spool_cursors (
	spool_id TEXT NOT NULL, 
	sequence BIGINT NOT NULL, 
	PRIMARY KEY (spool_id)
);
CREATE TABLE tenants (
	id TEXT NOT NULL, 
	name TEXT NOT NULL, 
	organisation TEXT, 
	grants TEXT NOT NULL, 
	created_at FLOAT NOT NULL, 
	created_by TEXT NOT NULL, 
	suspended_at FLOAT, 
	sequence BIGINT NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(organisation) REFERENCES organisations (id)
);
CREATE TABLE users (
	tenant TEXT NOT NULL, 
	id TEXT NOT NULL, 
	name TEXT NOT NULL, 
	groups TEXT NOT NULL, 
	created_at FLOAT NOT NULL, 
	created_by TEXT NOT NULL, 
	suspended_at FLOAT, 
	PRIMARY KEY (tenant, id)
);
CREATE INDEX calls_by_time ON calls (tenant, started_at);
CREATE INDEX calls_by_answer ON calls (answer_id) WHERE answer_id IS NOT NULL;
CREATE INDEX calls_by_request ON calls (request_id) WHERE request_id != call_id;
CREATE INDEX routing_by_sequence ON routing (sequence);
CREATE INDEX feedback_by_call ON feedback (call_id);
CREATE INDEX responses_by_expiry ON responses (expires_at);
CREATE INDEX pseudonyms_by_expiry ON pseudonyms (expires_at);
CREATE INDEX tenants_by_sequence ON tenants (sequence);
CREATE INDEX keys_by_sequence ON keys (sequence);
CREATE INDEX keys_by_tenant ON keys (tenant, id);
CREATE INDEX key_secrets_by_key ON key_secrets ("key");
CREATE INDEX audit_log_by_tenant ON audit_log (tenant, id);
CREATE INDEX audit_log_by_object ON audit_log (object, id);
CREATE TRIGGER audit_log_update BEFORE UPDATE ON audit_log BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
CREATE TRIGGER audit_log_delete BEFORE DELETE ON audit_log BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
CREATE TRIGGER audit_log_replace BEFORE INSERT ON audit_log WHEN EXISTS (SELECT 1 FROM audit_log WHERE id = NEW.id) BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
CREATE INDEX calls_with_content ON calls (tenant, started_at) WHERE content IS NOT NULL;
CREATE INDEX calls_by_user ON calls (tenant, user) WHERE "user" IS NOT NULL;
CREATE INDEX pseudonyms_by_owner ON pseudonyms (owner);
CREATE INDEX erasures_by_time ON erasures (tenant, at);
CREATE INDEX prompt_versions_by_sequence ON prompt_versions (sequence);
CREATE INDEX prompt_labels_by_sequence ON prompt_labels (sequence);
CREATE INDEX prompt_moves_by_name ON prompt_moves (tenant, name, id);
CREATE INDEX prompt_results_by_version ON prompt_results (tenant, name, version, id);
DELETE FROM "sqlite_sequence";
