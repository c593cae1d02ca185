/*
 * parts.c
 *	  The relations that a continuous view consists of.
 *
 *		v		the user's view, in the user's schema: reads t
 *		q_N		hidden view with the query as the user wrote it
 *		t_N		hidden table with the results, columns c1 .. cn
 *		k_N		hidden table with the operator's state; one more for each further worker
 *		v_late	late rows, beside the user's view
 *		f_N		hidden local stream, if the view reads another one (feeds.c)
 *		h_N		hidden local stream with history that the view takes in first (history.c)
 *
 * N is the view's id; hidden means in schema pipeline_data, on which users have
 * no rights.  All belong to the view's owner, so that nothing that runs with
 * the rights of an owner (index expressions, rules) runs with more than those.
 *
 * Invariants
 *	V1. Every part depends on v INTERNALly: DROP VIEW v takes the parts along
 *		without CASCADE, and no part can be dropped alone.
 *	V2. What the query reads is a dependency of q_N, and of nothing else of
 *		ours.  Dropping it reaches q_N and through V1 turns into dropping v,
 *		which is refused without CASCADE.
 *	V3. v never depends on q_N: pg_dump could not order the two.
 *	V4. Neither does a column of t_N go alone: where its type or collation can
 *		be dropped, the column is a part of v of its own.
 *
 * Hidden relations are made by the functions beneath the utility commands and
 * not by commands, as the system: event triggers must not see them, because
 * what users write would run with the rights of the system.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/transam.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "catalog/toasting.h"
#include "commands/defrem.h"
#include "commands/event_trigger.h"
#include "commands/tablecmds.h"
#include "commands/trigger.h"
#include "commands/view.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "parser/analyze.h"
#include "parser/parse_utilcmd.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteHandler.h"
#include "rewrite/rewriteSupport.h"
#include "tcop/tcopprot.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "catalog/beginnings.h"
#include "catalog/feeds.h"
#include "catalog/shards.h"
#include "compat.h"
#include "ddl/identity.h"
#include "ddl/parts.h"
#include "sink/late_table.h"
#include "sink/output.h"
#include "source/local/local.h"

#define HIDDEN_SCHEMA "pipeline_data"

static void create_hidden(CqView *view, const Query *query, const CqPlan *plan, Oid owner);
static Oid create_query_view(int64 id, const Query *query, Oid owner);
static Oid create_result_table(int64 id, const CqPlan *plan, Oid owner);
static Constraint *primary_key(List *columns);
static Oid create_chunk_table(int64 id, Oid owner);
static Oid create_late_table(const CqView *view, const CqPlan *plan, const char *name, Oid owner);
static char *free_name(const char *name, List *columns);
static List *columns_of(TupleDesc desc);
static ColumnDef *column(const char *name, Oid type);
static Oid create_table(RangeVar *name, List *columns, List *options, Oid owner);
static void define_user_view(const CqView *view, const CqPlan *plan);
static Query *select_from_result(const CqView *view, TupleDesc desc);
static void refuse_dml(Oid view);
static void revoke_writing(Oid table, Oid owner);
static void record_trigger(const ObjectAddress *whole);
static List *parts_of(const CqView *view);
static List *streams_of(const CqView *view);
static bool is_part_of(Oid part, Oid view);
static AttrNumber stored_column(const Query *query, AttrNumber resno, Oid table);
static AttrNumber stored_var(const Query *query, Node *expr, Oid table);

void
cq_parts_create(CqView *view, const Query *query, const CqPlan *plan, const char *late_name)
{
	Oid owner = GetUserId();
	CqIdentity saved;

	if (late_name)
		view->late = create_late_table(view, plan, late_name, owner);
	EventTriggerInhibitCommandCollection();
	PG_TRY();
	{
		cq_identity_system(&saved);
		create_hidden(view, query, plan, owner);
		cq_identity_restore(&saved);
	}
	PG_FINALLY();
	{
		EventTriggerUndoInhibitCommandCollection();
	}
	PG_END_TRY();
}

static void
create_hidden(CqView *view, const Query *query, const CqPlan *plan, Oid owner)
{
	view->query = create_query_view(view->id, query, owner);
	view->result = create_result_table(view->id, plan, owner);
	if (plan->shape != CQ_SHAPE_APPEND)
		view->chunks = create_chunk_table(view->id, owner);
	define_user_view(view, plan);
	refuse_dml(view->view);
	revoke_writing(view->result, owner);
	if (OidIsValid(view->chunks))
		revoke_writing(view->chunks, owner);
	cq_parts_record(view);
	CommandCounterIncrement();
}

Oid
cq_parts_create_chunks(const CqView *view, int64 id)
{
	Oid owner = cq_parts_owner(view->view);
	ObjectAddress whole;
	ObjectAddress part;
	CqIdentity saved;
	Oid chunks = InvalidOid;

	EventTriggerInhibitCommandCollection();
	PG_TRY();
	{
		cq_identity_system(&saved);
		chunks = create_chunk_table(id, owner);
		revoke_writing(chunks, owner);
		cq_identity_restore(&saved);
	}
	PG_FINALLY();
	{
		EventTriggerUndoInhibitCommandCollection();
	}
	PG_END_TRY();
	ObjectAddressSet(whole, RelationRelationId, view->view);
	ObjectAddressSet(part, RelationRelationId, chunks);
	recordDependencyOn(&part, &whole, DEPENDENCY_INTERNAL);
	CommandCounterIncrement();
	return chunks;
}

Oid
cq_parts_create_stream(const char *name, List *columns, List *options, Oid owner)
{
	CreateForeignTableStmt *stmt = makeNode(CreateForeignTableStmt);
	CqIdentity saved;
	Oid relid = InvalidOid;

	stmt->base.relation = makeRangeVar(pstrdup(HIDDEN_SCHEMA), pstrdup(name), -1);
	stmt->base.tableElts = columns;
	stmt->base.oncommit = ONCOMMIT_NOOP;
	stmt->servername = pstrdup("pipeline_local");
	stmt->options = options;
	EventTriggerInhibitCommandCollection();
	PG_TRY();
	{
		cq_identity_system(&saved);
		relid =
			DefineRelation((CreateStmt *) stmt, RELKIND_FOREIGN_TABLE, owner, NULL, NULL).objectId;
		CommandCounterIncrement();
		CreateForeignTable(stmt, relid);
		CommandCounterIncrement();
		cq_local_stream_create(relid);
		cq_identity_restore(&saved);
	}
	PG_FINALLY();
	{
		EventTriggerUndoInhibitCommandCollection();
	}
	PG_END_TRY();
	return relid;
}

/*
 * DefineView() would analyse the query again, now under another role: names
 * might mean something else.  So the analysed query is stored.
 */
static Oid
create_query_view(int64 id, const Query *query, Oid owner)
{
	CreateStmt *stmt = makeNode(CreateStmt);
	Query *copy = copyObject(unconstify(Query *, query));
	ObjectAddress address;
	ListCell *lc;

	stmt->relation = makeRangeVar(pstrdup(HIDDEN_SCHEMA), psprintf("q_" INT64_FORMAT, id), -1);
	stmt->oncommit = ONCOMMIT_NOOP;
	foreach (lc, copy->targetList)
	{
		TargetEntry *entry = lfirst_node(TargetEntry, lc);
		Node *expr = (Node *) entry->expr;

		if (!entry->resjunk)
			stmt->tableElts = lappend(stmt->tableElts,
									  makeColumnDef(entry->resname,
													exprType(expr),
													exprTypmod(expr),
													exprCollation(expr)));
	}
	address = DefineRelation(stmt, RELKIND_VIEW, owner, NULL, NULL);
	CommandCounterIncrement();
	StoreViewQuery(address.objectId, copy, false);
	CommandCounterIncrement();
	return address.objectId;
}

/*
 * Rows of windows that closed never change.  Rows of a view that shows changes
 * are updated in place at each checkpoint: they need room on their page, and a
 * key for whoever replicates them.  Rows of windows that are replaced are found by
 * their window.
 */
static Oid
create_result_table(int64 id, const CqPlan *plan, Oid owner)
{
	RangeVar *name = makeRangeVar(pstrdup(HIDDEN_SCHEMA), psprintf("t_" INT64_FORMAT, id), -1);
	List *options;
	List *columns;
	List *key = list_make1(makeString(pstrdup(CQ_RESULT_GID)));

	if (plan->emit != CQ_EMIT_CHANGES)
		return create_table(name, columns_of(plan->result_desc), NIL, owner);
	options =
		list_make2(makeDefElem("autovacuum_vacuum_scale_factor",
							   (Node *) makeFloat(pstrdup("0.02")),
							   -1),
				   makeDefElem("autovacuum_vacuum_threshold", (Node *) makeInteger(1000), -1));
	if (plan->replaced)
	{
		key = lcons(makeString(pstrdup(CQ_RESULT_WINDOW)), key);
		columns = lappend(columns_of(plan->result_desc), column(CQ_RESULT_WINDOW, INT8OID));
	}
	else
	{
		columns = columns_of(plan->closed_desc);
		options = lcons(makeDefElem("fillfactor", (Node *) makeInteger(50), -1), options);
	}
	columns = lappend(columns, column(CQ_RESULT_GID, INT8OID));
	return create_table(name, lappend(columns, primary_key(key)), options, owner);
}

static Constraint *
primary_key(List *columns)
{
	Constraint *key = makeNode(Constraint);

	key->contype = CONSTR_PRIMARY;
	key->location = -1;
	key->keys = columns;
	return key;
}

/*
 * Chunks are appended and deleted by their places; the worker that writes them
 * vacuums them.  They mean nothing to a subscriber.
 */
static Oid
create_chunk_table(int64 id, Oid owner)
{
	RangeVar *name = makeRangeVar(pstrdup(HIDDEN_SCHEMA), psprintf("k_" INT64_FORMAT, id), -1);
	AlterTableCmd *plain = makeNode(AlterTableCmd);
	AlterTableCmd *unpublished = makeNode(AlterTableCmd);
	ReplicaIdentityStmt *nothing = makeNode(ReplicaIdentityStmt);
	List *columns;
	List *options;
	Oid relid;

	columns = list_make4(column("seq", INT8OID),
						 column("pane", INT8OID),
						 column("part", INT4OID),
						 column("data", BYTEAOID));
	options = list_make3(makeDefElem("autovacuum_vacuum_scale_factor",
									 (Node *) makeFloat(pstrdup("0.2")),
									 -1),
						 makeDefElem("autovacuum_vacuum_threshold", (Node *) makeInteger(1000), -1),
						 makeDefElem("autovacuum_vacuum_cost_delay", (Node *) makeInteger(0), -1));
	relid = create_table(name, columns, options, owner);

	plain->subtype = AT_SetStorage;
	plain->name = pstrdup("data");
	plain->def = (Node *) makeString(pstrdup("plain"));
	nothing->identity_type = REPLICA_IDENTITY_NOTHING;
	unpublished->subtype = AT_ReplicaIdentity;
	unpublished->def = (Node *) nothing;
	AlterTableInternal(relid, list_make2(plain, unpublished), false);
	CommandCounterIncrement();
	return relid;
}

/* What the view reads of its streams, then what is known about the lateness. */
static Oid
create_late_table(const CqView *view, const CqPlan *plan, const char *name, Oid owner)
{
	char *schema = get_namespace_name(get_rel_namespace(view->view));
	Oid range = plan->window.time_type == TIMESTAMPOID ? TSRANGEOID : TSTZRANGEOID;
	const CqLateLayout *layout = cq_late_layout(plan, NIL);
	List *columns = NIL;
	int i;
	struct
	{
		const char *name;
		Oid type;
	} ours[CQ_LATE_COLUMNS] = {
		{"late_windows", get_array_type(range)},
		{"arrived_at", TIMESTAMPTZOID},
		{"watermark", TIMESTAMPTZOID},
		{"partition", INT4OID},
		{"offset", INT8OID},
	};

	for (i = 0; i < layout->ncolumns; i++)
		columns = lappend(columns,
						  makeColumnDef(layout->columns[i].name,
										layout->columns[i].type,
										layout->columns[i].typmod,
										layout->columns[i].collation));
	for (i = 0; i < lengthof(ours); i++)
		columns = lappend(columns, column(free_name(ours[i].name, columns), ours[i].type));

	if (OidIsValid(get_relname_relid(name, get_rel_namespace(view->view))))
		ereport(
			ERROR,
			errcode(ERRCODE_DUPLICATE_TABLE),
			errmsg("table \"%s\" for late rows of continuous view \"%s\" exists already",
				   name,
				   get_rel_name(view->view)),
			errhint(
				"Name another one in the option pipeline.late_table, or set pipeline.late to \"drop\"."));
	return create_table(makeRangeVar(schema, pstrdup(name), -1), columns, NIL, owner);
}

/* A column's name that is not taken by one of the stream's. */
static char *
free_name(const char *name, List *columns)
{
	char *candidate = pstrdup(name);
	ListCell *lc;

	foreach (lc, columns)
	{
		if (strcmp(lfirst_node(ColumnDef, lc)->colname, candidate) == 0)
			return free_name(psprintf("_%s", candidate), columns);
	}
	return candidate;
}

static List *
columns_of(TupleDesc desc)
{
	List *columns = NIL;
	int i;

	for (i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		columns = lappend(columns,
						  makeColumnDef(psprintf("c%d", i + 1),
										att->atttypid,
										att->atttypmod,
										att->attcollation));
	}
	return columns;
}

static ColumnDef *
column(const char *name, Oid type)
{
	return makeColumnDef(name, type, -1, get_typcollation(type));
}

static Oid
create_table(RangeVar *name, List *columns, List *options, Oid owner)
{
	CreateStmt *stmt = makeNode(CreateStmt);
	Oid relid = InvalidOid;
	ListCell *lc;

	stmt->relation = name;
	stmt->tableElts = columns;
	stmt->options = options;
	stmt->oncommit = ONCOMMIT_NOOP;
	stmt->accessMethod = pstrdup("heap");
	foreach (lc, transformCreateStmt(stmt, NULL))
	{
		Node *step = lfirst(lc);

		if (IsA(step, CreateStmt))
		{
			relid =
				DefineRelation((CreateStmt *) step, RELKIND_RELATION, owner, NULL, NULL).objectId;
			CommandCounterIncrement();
			NewRelationCreateToastTable(relid, (Datum) 0);
		}
		else if (IsA(step, IndexStmt))
			cq_compat_define_index(relid,
								   transformIndexStmt(relid, (IndexStmt *) step, NULL),
								   true);
		else
			elog(ERROR, "unexpected step of creating a table: %d", (int) nodeTag(step));
		CommandCounterIncrement();
	}
	return relid;
}

/* The user's view is there with the user's query; from now on it reads the results. */
static void
define_user_view(const CqView *view, const CqPlan *plan)
{
	StoreViewQuery(view->view, cq_parts_definition(view, plan), true);
	CommandCounterIncrement();
}

Query *
cq_parts_definition(const CqView *view, const CqPlan *plan)
{
	return plan->emit == CQ_EMIT_CHANGES && !plan->replaced
			   ? cq_plan_upper_query(plan, view->result)
			   : select_from_result(view, plan->result_desc);
}

static Query *
select_from_result(const CqView *view, TupleDesc desc)
{
	StringInfoData sql;
	int i;

	initStringInfo(&sql);
	appendStringInfoString(&sql, "SELECT");
	for (i = 0; i < desc->natts; i++)
		appendStringInfo(&sql,
						 "%s c%d AS %s",
						 i > 0 ? "," : "",
						 i + 1,
						 quote_identifier(NameStr(TupleDescAttr(desc, i)->attname)));
	appendStringInfo(&sql, " FROM " HIDDEN_SCHEMA ".t_" INT64_FORMAT, view->id);
	return parse_analyze_fixedparams(linitial_node(RawStmt, pg_parse_query(sql.data)),
									 sql.data,
									 NULL,
									 0,
									 NULL);
}

static void
refuse_dml(Oid view)
{
	CreateTrigStmt *stmt = makeNode(CreateTrigStmt);

	stmt->trigname = pstrdup(CQ_PARTS_TRIGGER);
	stmt->relation =
		makeRangeVar(get_namespace_name(get_rel_namespace(view)), get_rel_name(view), -1);
	stmt->funcname =
		list_make2(makeString(pstrdup(HIDDEN_SCHEMA)), makeString(pstrdup("refuse_dml")));
	stmt->row = true;
	stmt->timing = TRIGGER_TYPE_INSTEAD;
	stmt->events = TRIGGER_TYPE_INSERT | TRIGGER_TYPE_UPDATE | TRIGGER_TYPE_DELETE;
	(void) CreateTrigger(stmt,
						 NULL,
						 view,
						 InvalidOid,
						 InvalidOid,
						 InvalidOid,
						 InvalidOid,
						 InvalidOid,
						 NULL,
						 false,
						 false);
	CommandCounterIncrement();
}

/* The owner of a table may do anything to it unless told otherwise. */
static void
revoke_writing(Oid table, Oid owner)
{
	static const char *const privileges[] = {"insert", "update", "delete", "truncate"};
	GrantStmt *stmt = makeNode(GrantStmt);
	RoleSpec *grantee = makeNode(RoleSpec);
	int i;

	for (i = 0; i < lengthof(privileges); i++)
	{
		AccessPriv *privilege = makeNode(AccessPriv);

		privilege->priv_name = pstrdup(privileges[i]);
		stmt->privileges = lappend(stmt->privileges, privilege);
	}
	grantee->roletype = ROLESPEC_CSTRING;
	grantee->rolename = GetUserNameFromId(owner, false);
	grantee->location = -1;
	stmt->is_grant = false;
	stmt->targtype = ACL_TARGET_OBJECT;
	stmt->objtype = OBJECT_TABLE;
	stmt->objects = list_make1(makeRangeVar(pstrdup(HIDDEN_SCHEMA), get_rel_name(table), -1));
	stmt->grantees = list_make1(grantee);
	stmt->behavior = DROP_RESTRICT;
	ExecuteGrantStmt(stmt);
	CommandCounterIncrement();
}

void
cq_parts_record(const CqView *view)
{
	ObjectAddress whole;
	ObjectAddress part;
	ListCell *lc;

	ObjectAddressSet(whole, RelationRelationId, view->view);
	foreach (lc, parts_of(view))
	{
		if (is_part_of(lfirst_oid(lc), view->view))
			continue;
		ObjectAddressSet(part, RelationRelationId, lfirst_oid(lc));
		recordDependencyOn(&part, &whole, DEPENDENCY_INTERNAL);
		if (lfirst_oid(lc) == view->result)
			cq_parts_record_columns(view->result, view->view, 1);
	}
	record_trigger(&whole);
}

void
cq_parts_forget(const CqView *view)
{
	ListCell *lc;

	foreach (lc, parts_of(view))
		deleteDependencyRecordsForClass(RelationRelationId,
										lfirst_oid(lc),
										RelationRelationId,
										DEPENDENCY_INTERNAL);
	CommandCounterIncrement();
}

static List *
parts_of(const CqView *view)
{
	const Oid own[] = {view->query, view->result, view->chunks, view->late};
	List *parts = NIL;
	ListCell *lc;
	int i;

	for (i = 0; i < lengthof(own); i++)
		if (OidIsValid(own[i]))
			parts = lappend_oid(parts, own[i]);
	foreach (lc, cq_shards_of_view(view->id))
	{
		const CqShardRow *shard = lfirst(lc);

		if (OidIsValid(shard->chunks))
			parts = lappend_oid(parts, shard->chunks);
		parts = list_concat(parts, cq_view_more_chunks(shard->id));
	}
	parts = list_concat(parts, streams_of(view));
	return list_concat(parts, cq_view_more_chunks(view->id));
}

static List *
streams_of(const CqView *view)
{
	List *streams = NIL;
	CqBeginning beginning;
	ListCell *lc;

	foreach (lc, cq_feeds_of_view(view->id))
		streams = lappend_oid(streams, ((CqFeed *) lfirst(lc))->relation);
	cq_beginning_load(view->id, &beginning);
	if (OidIsValid(beginning.history))
		streams = lappend_oid(streams, beginning.history);
	return streams;
}

/*
 * DROP TYPE ... CASCADE reaches a column of t_N, through it v, and through v the
 * whole of t_N, which would then be dropped before its column.  A column that
 * is a part of v itself turns into dropping v at once.
 */
void
cq_parts_record_columns(Oid table, Oid view, AttrNumber first)
{
	Relation rel = relation_open(table, AccessShareLock);
	TupleDesc desc = RelationGetDescr(rel);
	ObjectAddress whole;
	ObjectAddress part;
	int i;

	ObjectAddressSet(whole, RelationRelationId, view);
	for (i = first - 1; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		if (att->atttypid < FirstUnpinnedObjectId && att->attcollation < FirstUnpinnedObjectId)
			continue;
		ObjectAddressSubSet(part, RelationRelationId, table, att->attnum);
		recordDependencyOn(&part, &whole, DEPENDENCY_INTERNAL);
	}
	relation_close(rel, NoLock);
}

/* DROP TRIGGER must not open the view's rows to changes; what is recorded goes with the rest. */
static void
record_trigger(const ObjectAddress *whole)
{
	ObjectAddress trigger;

	ObjectAddressSet(trigger,
					 TriggerRelationId,
					 get_trigger_oid(whole->objectId, CQ_PARTS_TRIGGER, true));
	if (!OidIsValid(trigger.objectId))
		return;
	deleteDependencyRecordsForSpecific(TriggerRelationId,
									   trigger.objectId,
									   DEPENDENCY_INTERNAL,
									   RelationRelationId,
									   whole->objectId);
	recordDependencyOn(&trigger, whole, DEPENDENCY_INTERNAL);
}

static bool
is_part_of(Oid part, Oid view)
{
	return cq_parts_view_of(part) == view;
}

bool
cq_parts_find(Oid relid, CqView *view)
{
	return OidIsValid(relid) && get_rel_relkind(relid) == RELKIND_VIEW && cq_extension_exists() &&
		   cq_view_load_by_oid(relid, view);
}

Oid
cq_parts_view_of(Oid part)
{
	Relation depend = table_open(DependRelationId, AccessShareLock);
	ScanKeyData key[2];
	SysScanDesc scan;
	HeapTuple row;
	Oid view = InvalidOid;

	ScanKeyInit(&key[0],
				Anum_pg_depend_classid,
				BTEqualStrategyNumber,
				F_OIDEQ,
				ObjectIdGetDatum(RelationRelationId));
	ScanKeyInit(&key[1],
				Anum_pg_depend_objid,
				BTEqualStrategyNumber,
				F_OIDEQ,
				ObjectIdGetDatum(part));
	scan = systable_beginscan(depend, DependDependerIndexId, true, NULL, 2, key);
	while (HeapTupleIsValid(row = systable_getnext(scan)))
	{
		Form_pg_depend form = (Form_pg_depend) GETSTRUCT(row);

		if (form->deptype == DEPENDENCY_INTERNAL && form->refclassid == RelationRelationId &&
			form->objsubid == 0 && get_rel_relkind(form->refobjid) == RELKIND_VIEW)
			view = form->refobjid;
	}
	systable_endscan(scan);
	table_close(depend, AccessShareLock);
	return view;
}

Oid
cq_parts_owner(Oid relid)
{
	Relation rel = relation_open(relid, AccessShareLock);
	Oid owner = rel->rd_rel->relowner;

	relation_close(rel, AccessShareLock);
	return owner;
}

void
cq_parts_change_owner(const CqView *view, Oid owner)
{
	CqIdentity saved;
	ListCell *lc;

	cq_identity_system(&saved);
	foreach (lc, parts_of(view))
		ATExecChangeOwner(lfirst_oid(lc), owner, true, AccessExclusiveLock);
	foreach (lc, streams_of(view))
		cq_local_stream_owner_changed(lfirst_oid(lc));
	cq_identity_restore(&saved);
	CommandCounterIncrement();
}

char *
cq_parts_late_name(const char *view_name)
{
	return makeObjectName(view_name, NULL, "late");
}

AttrNumber
cq_parts_stored_column(const CqView *view, AttrNumber attnum)
{
	Relation rel = relation_open(view->view, AccessShareLock);
	AttrNumber stored = stored_column(get_view_query(rel), attnum, view->result);

	relation_close(rel, NoLock);
	return stored;
}

static AttrNumber
stored_column(const Query *query, AttrNumber resno, Oid table)
{
	ListCell *lc;

	if (query->setOperations)
		return 0;
	foreach (lc, query->targetList)
	{
		TargetEntry *entry = lfirst_node(TargetEntry, lc);

		if (entry->resno == resno)
			return stored_var(query, (Node *) entry->expr, table);
	}
	return 0;
}

static AttrNumber
stored_var(const Query *query, Node *expr, Oid table)
{
	Var *var = (Var *) expr;
	RangeTblEntry *rte;

	if (!IsA(expr, Var) || var->varlevelsup != 0 || var->varattno <= 0)
		return 0;
	rte = rt_fetch(var->varno, query->rtable);
	switch (rte->rtekind)
	{
		case RTE_RELATION:
			return rte->relid == table ? var->varattno : 0;
		case RTE_SUBQUERY:
			return stored_column(rte->subquery, var->varattno, table);
		case RTE_JOIN:
			return stored_var(query, list_nth(rte->joinaliasvars, var->varattno - 1), table);
		default:
			return 0;
	}
}
