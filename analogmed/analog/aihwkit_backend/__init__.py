"""Networks of aihwkit's own layers: conversion, chips and training."""
