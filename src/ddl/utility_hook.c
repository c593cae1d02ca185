/*
 * utility_hook.c
 *	  Sends each utility statement that may concern us to its handler.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "tcop/cmdtag.h"

#include "ddl/handlers.h"
#include "ddl/utility_hook.h"

static void utility_hook(PlannedStmt *pstmt, const char *query_string, bool read_only_tree,
						 ProcessUtilityContext context, ParamListInfo params,
						 QueryEnvironment *query_env, DestReceiver *dest,
						 QueryCompletion *completion);
static CqUtilityHandler handler_of(const Node *stmt);

static ProcessUtility_hook_type previous_hook;

static const struct
{
	NodeTag tag;
	CqUtilityHandler handler;
} handlers[] = {
	{T_ViewStmt, cq_create_view},
	{T_CreateTableAsStmt, cq_refuse_table_as},
	{T_RuleStmt, cq_refuse_rule},
	{T_CreateTrigStmt, cq_refuse_trigger},
	{T_TruncateStmt, cq_refuse_truncate},
	{T_CreateStmt, cq_create_table},
	{T_AlterTableStmt, cq_alter_table},
	{T_RenameStmt, cq_rename},
	{T_AlterObjectSchemaStmt, cq_set_schema},
	{T_ReassignOwnedStmt, cq_reassign_owned},
	{T_IndexStmt, cq_create_index},
	{T_DropStmt, cq_drop_index},
	{T_ReindexStmt, cq_reindex},
	{T_CommentStmt, cq_comment},
	{T_VacuumStmt, cq_vacuum_view},
	{T_CreateForeignTableStmt, cq_create_stream},
	{T_AlterForeignServerStmt, cq_alter_server},
	{T_AlterOwnerStmt, cq_alter_owner},
	{T_AlterFdwStmt, cq_refuse_wrapper},
	{T_CreateFunctionStmt, cq_replace_function},
	{T_AlterFunctionStmt, cq_alter_function},
	{T_DefineStmt, cq_replace_aggregate},
	{T_CreateUserMappingStmt, cq_alter_user_mapping},
	{T_AlterUserMappingStmt, cq_alter_user_mapping},
	{T_DropUserMappingStmt, cq_alter_user_mapping},
	{T_CreatedbStmt, cq_create_database},
	{T_DropdbStmt, cq_drop_database},
	{T_AlterDatabaseStmt, cq_alter_database},
	{T_CreateExtensionStmt, cq_create_extension},
	{T_AlterExtensionStmt, cq_alter_extension},
};

/* pg_upgrade restores every object as it was: nothing may be added, checked or numbered anew. */
void
cq_utility_hook_install(void)
{
	if (IsBinaryUpgrade)
		return;
	previous_hook = ProcessUtility_hook;
	ProcessUtility_hook = utility_hook;
}

void
cq_utility_next(CqUtility *utility)
{
	ProcessUtility_hook_type next = previous_hook ? previous_hook : standard_ProcessUtility;

	next(utility->pstmt,
		 utility->query_string,
		 utility->read_only_tree,
		 utility->context,
		 utility->params,
		 utility->query_env,
		 utility->dest,
		 utility->completion);
}

void
cq_utility_next_instead(CqUtility *utility, Node *stmt)
{
	CqUtility instead = *utility;

	instead.pstmt = makeNode(PlannedStmt);
	*instead.pstmt = *utility->pstmt;
	instead.pstmt->utilityStmt = stmt;
	instead.read_only_tree = false;
	cq_utility_next(&instead);
}

void
cq_utility_done(CqUtility *utility, CommandTag tag)
{
	if (utility->completion)
		SetQueryCompletion(utility->completion, tag, 0);
}

static void
utility_hook(PlannedStmt *pstmt, const char *query_string, bool read_only_tree,
			 ProcessUtilityContext context, ParamListInfo params, QueryEnvironment *query_env,
			 DestReceiver *dest, QueryCompletion *completion)
{
	CqUtilityHandler handler = handler_of(pstmt->utilityStmt);
	CqUtility utility = {
		.pstmt = pstmt,
		.query_string = query_string,
		.read_only_tree = read_only_tree,
		.context = context,
		.params = params,
		.query_env = query_env,
		.dest = dest,
		.completion = completion,
	};

	handler(&utility);
}

static CqUtilityHandler
handler_of(const Node *stmt)
{
	int i;

	for (i = 0; i < lengthof(handlers); i++)
		if (handlers[i].tag == nodeTag(stmt))
			return handlers[i].handler;
	return cq_utility_next;
}
