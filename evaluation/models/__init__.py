"""The models that serve: classifier, answer scorer, features, artifacts."""
