"""BERT with exits for texts: DeeBERT's and PABEE's classifiers of sequences."""
