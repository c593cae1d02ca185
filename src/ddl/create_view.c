/*
 * create_view.c
 *	  CREATE VIEW ... WITH (pipeline.continuous).
 *
 * The query is analysed, planned and tried for rights as the user, with errors
 * that point into the statement.  Then PostgreSQL itself creates the view, from
 * the same statement without our options: so everything it checks or tells
 * others (names, rights on the schema, event triggers) is as for any view.
 * Last, the parts are made and the view is pointed at its result table.  All of
 * it is one transaction; the worker starts when that commits.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "commands/sequence.h"
#include "commands/tablespace.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "parser/analyze.h"
#include "parser/parse_relation.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "catalog/rows.h"
#include "compat.h"
#include "ddl/feeds.h"
#include "ddl/handlers.h"
#include "ddl/identity.h"
#include "ddl/limits.h"
#include "ddl/parts.h"
#include "ddl/readers.h"
#include "ddl/retention.h"
#include "ddl/shards.h"
#include "ddl/view_options.h"
#include "decode/decoder.h"
#include "monitor/slots.h"
#include "operator/operator.h"
#include "plan/normalise.h"
#include "plan/plan.h"
#include "plan/stage.h"

static void replace_plain_view(CqUtility *utility, const RangeVar *name);
static void refuse_over_stream(Oid relid, Oid reader);
static void refuse_missing_prefix(List *options);
static void create_plain_view(CqUtility *utility, ViewStmt *stmt, List *others, List *given);
static void create_continuous_view(CqUtility *utility, ViewStmt *stmt, List *others, List *given);
static int64 next_id(void);
static void create_more_chunks(const CqView *view, const CqPlan *plan);
static bool is_dummy(const ViewStmt *stmt);
static void dissolve(CqUtility *utility, const ViewStmt *stmt);
static void refuse_replacing(const ViewStmt *stmt);
static void refuse_kind_of_view(const ViewStmt *stmt);
static Query *analyse_query(CqUtility *utility, const ViewStmt *stmt);
static void name_columns(Query *query, List *aliases, const char *view_name);
static void check_tablespace(void);
static Oid create_as_user(CqUtility *utility, const ViewStmt *stmt, List *others);
static void say_what_was_understood(const CqPlan *plan);
static void warn_of_whole_tables(const CqPlan *plan, const char *name);

void
cq_create_view(CqUtility *utility)
{
	ViewStmt *stmt = (ViewStmt *) utility->pstmt->utilityStmt;
	List *ours;
	List *others;
	List *given;
	int continuous;

	cq_view_options_split(stmt->options, &ours, &others);
	if (stmt->replace && ours == NIL && is_dummy(stmt))
	{
		dissolve(utility, stmt);
		return;
	}
	if (stmt->replace)
		refuse_replacing(stmt);
	if (ours == NIL && stmt->replace)
	{
		replace_plain_view(utility, copyObject(stmt->view));
		return;
	}
	if (ours == NIL)
	{
		refuse_missing_prefix(others);
		cq_utility_next(utility);
		return;
	}
	given = cq_view_options_strings(ours, &continuous);
	if (continuous == 1)
		create_continuous_view(utility, stmt, others, given);
	else
		create_plain_view(utility, stmt, others, given);
}

/* What a continuous view reads by way of an ordinary one is as good as its own query. */
static void
replace_plain_view(CqUtility *utility, const RangeVar *name)
{
	Oid relid = RangeVarGetRelid(name, NoLock, true);
	List *readers = NIL;

	if (OidIsValid(relid) && cq_extension_exists())
		readers = cq_readers(RelationRelationId, relid, 0, true);
	if (readers != NIL)
		refuse_over_stream(relid, linitial_oid(readers));
	cq_utility_next(utility);
	if (readers == NIL)
		return;
	CommandCounterIncrement();
	refuse_over_stream(relid, linitial_oid(readers));
	cq_readers_check(readers);
}

static void
refuse_over_stream(Oid relid, Oid reader)
{
	Relation view = relation_open(relid, AccessShareLock);
	bool over_stream =
		view->rd_rel->relkind == RELKIND_VIEW && cq_reads_stream((Node *) cq_view_definition(view));

	relation_close(view, NoLock);
	if (over_stream)
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_IN_USE),
				errmsg("view \"%s\" over a stream cannot be replaced", get_rel_name(relid)),
				errdetail("State and results of continuous view \"%s\" belong to the definition "
						  "that it has read.",
						  get_rel_name(reader)),
				errhint("Create another view, and a continuous view that reads it."));
}

/* PostgreSQL would say that it does not know the parameter, and no more. */
static void
refuse_missing_prefix(List *options)
{
	ListCell *lc;

	foreach (lc, options)
	{
		DefElem *option = lfirst_node(DefElem, lc);

		if (option->defnamespace == NULL && strcmp(option->defname, "continuous") == 0)
			ereport(ERROR,
					errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("unrecognized parameter \"continuous\""),
					errhint("Write WITH (pipeline.continuous)."));
	}
}

static void
create_plain_view(CqUtility *utility, ViewStmt *stmt, List *others, List *given)
{
	ViewStmt *plain = copyObject(stmt);
	CqViewOptions options;

	cq_view_options_parse(given, stmt->view->relname, &options);
	if (given != NIL)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("view \"%s\" has options of a continuous view but is not one",
					   stmt->view->relname),
				errhint("Add pipeline.continuous to the options."));
	plain->options = copyObject(others);
	cq_utility_next_instead(utility, (Node *) plain);
}

static void
create_continuous_view(CqUtility *utility, ViewStmt *stmt, List *others, List *given)
{
	const char *name = stmt->view->relname;
	const char *late_name = NULL;
	CqView view = {0};
	Query *query;
	List *feeds;
	CqPlan *plan;
	int i;

	PreventCommandIfReadOnly("CREATE VIEW");
	PreventCommandDuringRecovery("CREATE VIEW");
	if (!cq_extension_exists())
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("extension \"pipeline_ext\" is not installed in this database"),
				errhint("Run CREATE EXTENSION pipeline_ext."));
	cq_require_preload();
	PreventCommandIfReadOnly("CREATE VIEW");
	PreventCommandDuringRecovery("CREATE VIEW");
	refuse_kind_of_view(stmt);
	cq_view_options_check_others(others, name);
	cq_view_options_parse(given, name, &view.options);

	query = analyse_query(utility, stmt);
	view.id = next_id();
	feeds = cq_feeds_create(query, view.id, name);
	plan = cq_plan_query(query,
						 view.options.emit,
						 cq_view_options_corrected_by(&view.options),
						 view.options.workers > 1,
						 feeds,
						 name);
	cq_view_options_check_plan(&view.options, plan, name);
	if (view.options.retention_us >= 0)
		cq_retention_check(plan, name);
	cq_shards_check(plan, view.options.workers, name);
	for (i = 0; i < plan->ninputs; i++)
		cq_operator_check(plan->inputs[i]);
	for (i = 0; i < plan->nstreams; i++)
		(void) cq_decoder_create(cq_stream_load(plan->streams[i].relid), plan->streams[i].columns);
	cq_identity_check_rights(query, utility->query_string);
	check_tablespace();
	cq_limits_check(GetUserId(), view.options.workers, name);

	cq_feeds_fill(feeds,
				  plan,
				  !view.options.has_start || view.options.start != CQ_START_LATEST,
				  name);

	view.view = create_as_user(utility, stmt, others);
	for (i = 0; i < plan->nstreams; i++)
		view.streams = lappend_oid(view.streams, plan->streams[i].relid);
	view.stream = plan->streams[0].relid;
	view.settings = cq_identity_settings();
	if (cq_window_has_late(&plan->window) && view.options.store_late)
		late_name = cq_view_options_value(given, "late_table");
	if (cq_window_has_late(&plan->window) && view.options.store_late && late_name == NULL)
		late_name = cq_parts_late_name(name);
	cq_parts_create(&view, query, plan, late_name);
	if (view.options.retention_us >= 0)
		cq_retention_create_index(&view, plan);

	cq_view_insert(&view);
	cq_task_insert(view.id);
	cq_checkpoint_insert(view.id);
	create_more_chunks(&view, plan);
	cq_shards_create(&view, view.options.workers);
	cq_shards_at_commit(CQ_SLOT_ADD, view.id);
	say_what_was_understood(plan);
	warn_of_whole_tables(plan, name);
	cq_limits_warn_of_workers(view.options.workers);
}

static int64
next_id(void)
{
	return nextval_internal(get_relname_relid("id_seq", get_namespace_oid("pipeline_data", false)),
							false);
}

static void
create_more_chunks(const CqView *view, const CqPlan *plan)
{
	int i;

	for (i = 1; i < plan->ninputs; i++)
		cq_view_add_chunks(view->id, i, cq_parts_create_chunks(view, next_id()));
}

/* Is it what pg_dump has instead of a view: SELECT NULL::type AS column, ...? */
static bool
is_dummy(const ViewStmt *stmt)
{
	SelectStmt *select = IsA(stmt->query, SelectStmt) ? (SelectStmt *) stmt->query : NULL;
	ListCell *lc;

	if (select == NULL || select->targetList == NIL || select->fromClause != NIL)
		return false;
	foreach (lc, select->targetList)
	{
		Node *value = lfirst_node(ResTarget, lc)->val;

		if (value && IsA(value, CollateClause))
			value = ((CollateClause *) value)->arg;
		if (value == NULL || !IsA(value, TypeCast))
			return false;
		value = ((TypeCast *) value)->arg;
		if (!IsA(value, A_Const) || !((A_Const *) value)->isnull)
			return false;
	}
	return true;
}

/*
 * A script of pg_dump --clean drops the table beneath a view before the view, which
 * it first replaces by a dummy, and all other hidden relations one by one.  So the
 * dummy ends a continuous view: what was part of it becomes what it is in a database
 * that was restored and not adopted, relations that can be dropped.
 */
static void
dissolve(CqUtility *utility, const ViewStmt *stmt)
{
	CqView view;
	bool ours = cq_parts_find(RangeVarGetRelid(stmt->view, NoLock, true), &view);

	cq_utility_next(utility);
	if (!ours)
		return;
	cq_shards_at_commit(CQ_SLOT_REMOVE, view.id);
	cq_parts_forget(&view);
	cq_view_delete(view.id);
}

/*
 * Also without options of ours: it would replace what makes the view read its
 * results.  But pg_dump writes a view whose table belongs to it as a dummy
 * first, and replaces that by the definition when the table is there; until
 * adopt() the views of a restored database are not ours to protect.
 */
static void
refuse_replacing(const ViewStmt *stmt)
{
	Oid relid = RangeVarGetRelid(stmt->view, NoLock, true);
	CqView view;
	List *ours;
	List *others;

	cq_view_options_split(stmt->options, &ours, &others);
	if (!OidIsValid(relid))
		return;
	if (ours != NIL && !cq_parts_find(relid, &view))
		ereport(ERROR,
				errcode(ERRCODE_WRONG_OBJECT_TYPE),
				errmsg("relation \"%s\" exists already and is not a continuous view",
					   stmt->view->relname),
				errhint("Drop it first, or choose another name."));
	if (ours == NIL && !cq_readers_find(relid, &view))
		return;
	ereport(
		ERROR,
		errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
		errmsg("continuous view \"%s\" cannot be replaced", stmt->view->relname),
		errdetail("Its state and its results belong to the query that it was created with."),
		errhint(
			"pipeline.alter() adds columns to it. For other changes drop the view and create it "
			"again, or create another one beside it."));
}

static void
refuse_kind_of_view(const ViewStmt *stmt)
{
	const char *name = stmt->view->relname;
	SelectStmt *select = IsA(stmt->query, SelectStmt) ? (SelectStmt *) stmt->query : NULL;

	if (stmt->view->relpersistence == RELPERSISTENCE_TEMP)
		ereport(
			ERROR,
			errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			errmsg("continuous view \"%s\" cannot be temporary", name),
			errdetail(
				"It is kept by a background worker, which cannot see this session's temporary relations."));
	/* CREATE RECURSIVE VIEW v is parsed as a WITH RECURSIVE query named like the view. */
	if (select && select->withClause && select->withClause->recursive)
		ereport(ERROR,
				errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("continuous view \"%s\" cannot be recursive", name),
				errhint("Write the query without WITH RECURSIVE."));
	if (stmt->withCheckOption != NO_CHECK_OPTION)
		ereport(ERROR,
				errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("WITH CHECK OPTION is not possible for continuous view \"%s\"", name),
				errdetail("Rows cannot be inserted into a continuous view or updated in it."));
}

static Query *
analyse_query(CqUtility *utility, const ViewStmt *stmt)
{
	RawStmt *raw = makeNode(RawStmt);
	Query *query;

	raw->stmt = copyObject(stmt->query);
	raw->stmt_location = utility->pstmt->stmt_location;
	raw->stmt_len = utility->pstmt->stmt_len;
	query = parse_analyze_fixedparams(raw, utility->query_string, NULL, 0, NULL);

	if (query->commandType != CMD_SELECT || query->hasModifyingCTE)
		ereport(ERROR,
				errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("query of continuous view \"%s\" must be a SELECT that changes nothing",
					   stmt->view->relname));
	if (isQueryUsingTempRelation(query))
		ereport(
			ERROR,
			errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			errmsg("continuous view \"%s\" cannot read temporary relations", stmt->view->relname),
			errdetail(
				"It is kept by a background worker, which cannot see this session's temporary relations."));
	name_columns(query, stmt->aliases, stmt->view->relname);
	return query;
}

static void
name_columns(Query *query, List *aliases, const char *view_name)
{
	ListCell *alias = list_head(aliases);
	ListCell *lc;

	foreach (lc, query->targetList)
	{
		TargetEntry *entry = lfirst_node(TargetEntry, lc);

		if (alias == NULL)
			return;
		if (entry->resjunk)
			continue;
		entry->resname = pstrdup(strVal(lfirst(alias)));
		alias = lnext(aliases, alias);
	}
	if (alias)
		ereport(
			ERROR,
			errcode(ERRCODE_SYNTAX_ERROR),
			errmsg("continuous view \"%s\" is given more column names than its query has columns",
				   view_name));
}

/* Hidden tables are made as the system, but in the user's tablespace. */
static void
check_tablespace(void)
{
	Oid tablespace = GetDefaultTablespace(RELPERSISTENCE_PERMANENT, false);
	AclResult result;

	if (!OidIsValid(tablespace) || tablespace == MyDatabaseTableSpace)
		return;
	result = cq_compat_tablespace_aclcheck(tablespace, GetUserId(), ACL_CREATE);
	if (result != ACLCHECK_OK)
		aclcheck_error(result, OBJECT_TABLESPACE, get_tablespace_name(tablespace));
}

/* An unqualified name may also mean a temporary table: look where the view was put. */
static Oid
create_as_user(CqUtility *utility, const ViewStmt *stmt, List *others)
{
	ViewStmt *plain = copyObject(unconstify(ViewStmt *, stmt));
	Oid schema = RangeVarGetCreationNamespace(stmt->view);

	if (isAnyTempNamespace(schema))
		ereport(ERROR,
				errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("continuous view \"%s\" cannot be temporary", stmt->view->relname));
	plain->options = copyObject(others);
	cq_utility_next_instead(utility, (Node *) plain);
	CommandCounterIncrement();
	return get_relname_relid(stmt->view->relname, schema);
}

/* One NOTICE: the planner's first sentence says what the view is, the others add to it. */
static void
say_what_was_understood(const CqPlan *plan)
{
	StringInfoData rest;
	ListCell *lc;

	if (plan->notices == NIL)
		return;
	initStringInfo(&rest);
	for_each_from(lc, plan->notices, 1)
		appendStringInfo(&rest, "%s%s", rest.len > 0 ? "\n" : "", (char *) lfirst(lc));
	ereport(NOTICE,
			errmsg_internal("%s", (char *) linitial(plan->notices)),
			rest.len > 0 ? errdetail_internal("%s", rest.data) : 0);
}

/* A join without an index reads its table for every few events that come. */
static void
warn_of_whole_tables(const CqPlan *plan, const char *name)
{
	CqPrepared *prepared;
	List *tables = NIL;
	ListCell *lc;
	int i;
	int j;

	for (i = 0; i < plan->ninputs; i++)
		for (j = 0; j < plan->inputs[i]->nstages; j++)
		{
			prepared = cq_stage_prepare(plan->inputs[i]->stages[j], CurrentMemoryContext);
			tables = list_concat_unique_oid(tables, cq_stage_whole_tables(prepared));
			cq_prepared_free(prepared);
		}
	foreach (lc, tables)
		ereport(WARNING,
				errmsg("continuous view \"%s\" reads table \"%s\" as a whole whenever events come",
					   name,
					   get_rel_name(lfirst_oid(lc))),
				errdetail("No index serves the join with it."),
				errhint("Create an index on the columns that the join compares."));
}

void
cq_refuse_table_as(CqUtility *utility)
{
	CreateTableAsStmt *stmt = (CreateTableAsStmt *) utility->pstmt->utilityStmt;
	List *ours;
	List *others;

	cq_view_options_split(stmt->into->options, &ours, &others);
	if (ours != NIL)
		ereport(
			ERROR,
			errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			errmsg("a %s cannot be continuous",
				   stmt->objtype == OBJECT_MATVIEW ? "materialized view" : "table"),
			errhint("Use CREATE VIEW %s WITH (pipeline.continuous) AS ...; its results are stored.",
					quote_identifier(stmt->into->rel->relname)));
	cq_utility_next(utility);
}

void
cq_refuse_rule(CqUtility *utility)
{
	RuleStmt *stmt = (RuleStmt *) utility->pstmt->utilityStmt;
	CqView view;

	if (cq_parts_find(RangeVarGetRelid(stmt->relation, NoLock, true), &view))
		ereport(ERROR,
				errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("cannot create rule on continuous view \"%s\"", stmt->relation->relname),
				errdetail("Its rows are written by a background worker, and by nobody else."));
	if (stmt->event == CMD_SELECT)
		replace_plain_view(utility, copyObject(stmt->relation));
	else
		cq_utility_next(utility);
}
