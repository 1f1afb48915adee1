"""Kafka to Iceberg: the streaming driver of K2."""
