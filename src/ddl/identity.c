/*
 * identity.c
 *	  Acting as somebody else for a while.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_authid.h"
#include "executor/execdesc.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/plannodes.h"
#include "rewrite/rewriteHandler.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"

#include "catalog/shards.h"
#include "ddl/identity.h"
#include "ddl/parts.h"

static char *schemas_searched(void);
static void apply_setting(const char *setting);

void
cq_identity_system(CqIdentity *saved)
{
	GetUserIdAndSecContext(&saved->user, &saved->security_context);
	saved->guc_level = NewGUCNestLevel();
	SetUserIdAndSecContext(BOOTSTRAP_SUPERUSERID,
						   saved->security_context | SECURITY_LOCAL_USERID_CHANGE);
}

void
cq_identity_owner(Oid owner, List *settings, CqIdentity *saved)
{
	ListCell *lc;

	GetUserIdAndSecContext(&saved->user, &saved->security_context);
	saved->guc_level = NewGUCNestLevel();
	SetUserIdAndSecContext(owner,
						   saved->security_context | SECURITY_LOCAL_USERID_CHANGE |
							   SECURITY_RESTRICTED_OPERATION);
	foreach (lc, settings)
		apply_setting(lfirst(lc));
}

void
cq_identity_restore(const CqIdentity *saved)
{
	AtEOXact_GUC(false, saved->guc_level);
	SetUserIdAndSecContext(saved->user, saved->security_context);
}

CqPlan *
cq_identity_plan(const CqView *view)
{
	CqIdentity saved;
	CqPlan *plan;

	cq_identity_owner(cq_parts_owner(view->view), view->settings, &saved);
	plan = cq_view_plan(view, cq_shards_of_view(view->id) != NIL);
	cq_identity_restore(&saved);
	return plan;
}

int
cq_identity_enter_settings(List *settings)
{
	int level = NewGUCNestLevel();
	ListCell *lc;

	foreach (lc, settings)
		if (strncmp(lfirst(lc), "search_path=", strlen("search_path=")) != 0)
			apply_setting(lfirst(lc));
	return level;
}

static void
apply_setting(const char *setting)
{
	char *name = pstrdup(setting);
	char *value = strchr(name, '=');

	if (value == NULL)
		elog(ERROR, "malformed setting \"%s\" of a continuous view", setting);
	*value++ = '\0';
	(void)
		set_config_option(name, value, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
}

List *
cq_identity_settings(void)
{
	static const char *const names[] = {
		"TimeZone",
		"DateStyle",
		"IntervalStyle",
		"extra_float_digits",
		"bytea_output",
		"xmloption",
		"lc_monetary",
		"lc_numeric",
		"lc_time",
		"array_nulls",
		"default_text_search_config",
		"quote_all_identifiers",
		"timezone_abbreviations",
		"xmlbinary",
	};
	List *settings = NIL;
	int i;

	for (i = 0; i < lengthof(names); i++)
		settings =
			lappend(settings, psprintf("%s=%s", names[i], GetConfigOption(names[i], false, false)));
	return lappend(settings, psprintf("search_path=%s", schemas_searched()));
}

/*
 * The search path with what depends on the session resolved: "$user" means
 * somebody else to a worker, and temporary schemas are nothing to it.
 */
static char *
schemas_searched(void)
{
	List *schemas = fetch_search_path(false);
	StringInfoData path;
	ListCell *lc;

	initStringInfo(&path);
	foreach (lc, schemas)
	{
		char *name = get_namespace_name(lfirst_oid(lc));

		if (name == NULL || isTempNamespace(lfirst_oid(lc)))
			continue;
		appendStringInfo(&path, "%s%s", path.len > 0 ? ", " : "", quote_identifier(name));
	}
	list_free(schemas);
	if (path.len == 0)
		appendStringInfoString(&path, "\"\"");
	return path.data;
}

/*
 * Rights are checked when an executor starts, so start one that is told never
 * to run.  It is the only check that knows all about rights of views in the
 * query, of functions, aggregates and columns.
 */
void
cq_identity_check_rights(const Query *query, const char *query_string)
{
	Query *copy = copyObject(unconstify(Query *, query));
	List *rewritten;
	PlannedStmt *planned;
	QueryDesc *desc;

	PushActiveSnapshot(GetTransactionSnapshot());
	AcquireRewriteLocks(copy, true, false);
	rewritten = QueryRewrite(copy);
	if (list_length(rewritten) != 1)
		elog(ERROR, "query of a view was rewritten to %d queries", list_length(rewritten));
	planned = pg_plan_query(linitial_node(Query, rewritten), query_string, 0, NULL);
	desc = CreateQueryDesc(planned,
						   query_string,
						   GetActiveSnapshot(),
						   InvalidSnapshot,
						   None_Receiver,
						   NULL,
						   NULL,
						   0);
	ExecutorStart(desc, EXEC_FLAG_EXPLAIN_ONLY);
	ExecutorEnd(desc);
	FreeQueryDesc(desc);
	PopActiveSnapshot();
}
