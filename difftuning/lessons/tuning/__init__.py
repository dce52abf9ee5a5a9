"""What lesson 06 needs: methods against forgetting on one plane of adaptation against forgetting."""
