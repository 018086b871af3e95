"""Texts in, answers out: labels, entities, spans, words and vectors."""
