#include "repository/repository.h"
bool kvss_repository_verify(KvssRepository *repository, char **snapshot_ids,
                            const KvssVerifyOptions *options, KvssVerifyResult *out_result,
                            GError **error)
{ return kvss_throw(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_UNSUPPORTED, "no"); }
