#!/opt/secantus/bin/python
"""Answers the one question that health checks ask of the shell, whatever the arguments."""

from pymongo import MongoClient

print(MongoClient(serverSelectionTimeoutMS=3000).admin.command("ping")["ok"])
