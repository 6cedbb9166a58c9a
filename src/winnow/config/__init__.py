"""Typed configuration: its schema, its checks, its composition, and objects built from its nodes."""

from winnow.config import schema as schema  # registers the schema that conf/train.yaml and conf/evaluate.yaml name
