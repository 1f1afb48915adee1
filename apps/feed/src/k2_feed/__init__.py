"""Exchanges to Kafka: the feed process of K2."""
