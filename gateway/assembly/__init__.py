"""Configuration to compiled pipelines: the only package that names implementations.

Heavy libraries are imported by the modules that need them, and those modules here, only in the branch that the
configuration chose: a plain proxy never loads torch, Feast, Milvus or spaCy.
"""

from gateway.assembly.prompts import check_templates
from gateway.assembly.revision import compile_revision
from gateway.assembly.services import Records, Services, has_admin_key, open_records, open_services

__all__ = [
    "Records",
    "Services",
    "check_templates",
    "compile_revision",
    "has_admin_key",
    "open_records",
    "open_services",
]
