"""Typed configuration: its schema, checks and composition, and the objects built from its nodes."""

from winnow.config import schema as schema  # registers the schemas that conf/train.yaml and conf/evaluate.yaml name
